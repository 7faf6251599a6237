-- Every list of incidents is read along an index, newest first, whatever it is filtered by.
CREATE INDEX incidents_open ON incidents (opened_at DESC, id DESC) WHERE closed_at IS NULL;
CREATE INDEX incidents_by_outcome ON incidents (outcome, opened_at DESC, id DESC);
CREATE INDEX incidents_open_by_service ON incidents (service, opened_at DESC, id DESC) WHERE closed_at IS NULL;
CREATE INDEX incidents_by_service_state ON incidents (service, state, opened_at DESC, id DESC);
CREATE INDEX incidents_by_service_outcome ON incidents (service, outcome, opened_at DESC, id DESC);
