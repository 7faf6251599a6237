use proptest::prelude::*;

use super::*;
use crate::{canonical::canonicalize, testing};

fn says(entry: &Entry<'_>) -> String {
    Entry::parse(&entry.to_bytes()).err().map(|e| e.to_string()).unwrap_or_default()
}

fn reading(change: impl FnOnce(&mut Reading<'static>)) -> Entry<'static> {
    let mut reading = testing::reading("machine-001", 1);
    change(&mut reading);
    Entry::Reading(reading)
}

#[test]
fn every_type_comes_back_and_is_canonical() {
    let set = carbon::built_in(testing::START_US);
    let key = crate::note::SigningKey::from_seed("a", crate::note::Algorithm::Ed25519, [1; 32]).unwrap();
    let vkey: Cow<'static, str> = key.verifier().to_string().into();
    let market = reading(|r| {
        let factor = Quote { instrument: Some("GO-1 \"wind\"".into()), value: 12, ..r.factor.clone() };
        r.market_factor = Some(factor);
        r.parts = Some(Parts { avoided: 0, made: 9, scrapped: 2 });
        r.compute();
    });
    let correction = Correction {
        author: "an auditor".into(),
        reading: testing::reading("machine-001", 1),
        reason: "meter\tmisread".into(),
        index: 7,
        leaf_sha256: "ab".repeat(32).into(),
    };
    for entry in [
        reading(|_| ()),
        market,
        Entry::GapOpen(GapOpen {
            from_us: EARLIEST_US,
            machine_id: "m".into(),
            reason: "silent".into(),
            ..GapOpen::default()
        }),
        Entry::GapClose(GapClose {
            from_us: EARLIEST_US,
            until_us: EARLIEST_US + 1,
            machine_id: "m".into(),
            missing: Some(3),
            ..GapClose::default()
        }),
        Entry::Correction(Box::new(correction)),
        Entry::FactorSet(set),
        Entry::KeyRotation(KeyRotation {
            new_key: vkey.clone(),
            old_key: vkey,
            reason: "yearly".into(),
            rotated_at_us: EARLIEST_US,
        }),
        Entry::Heartbeat(Heartbeat { at_us: EARLIEST_US }),
    ] {
        let bytes = entry.to_bytes();
        assert_eq!(Entry::parse(&bytes).unwrap(), entry);
        // The generic canonicalizer agrees with the typed writer on the order of the fields.
        assert_eq!(String::from_utf8(canonicalize(&bytes).unwrap()), String::from_utf8(bytes));
    }
}

#[test]
fn each_bad_value_has_its_message() {
    for (entry, expected) in [
        (reading(|r| r.energy_mj = -1), "energy_mj is negative (-1)"),
        (reading(|r| r.meter_mj = -1), "meter_mj is negative (-1)"),
        (reading(|r| r.seq = -1), "seq is negative (-1)"),
        (reading(|r| r.meter_mj = 5), "energy_mj is 1000000, more than the meter's 5"),
        (reading(|r| r.error_code = 70_000), "error_code is 70000, not between 0 and 65535"),
        (reading(|r| r.end_us = r.start_us), "interval is empty"),
        (reading(|r| r.end_us = r.start_us - 1), "interval ends before it starts"),
        (reading(|r| r.end_us = r.start_us + MAX_INTERVAL_US + 1), "interval is longer than an hour"),
        (reading(|r| (r.start_us, r.end_us) = (0, 1)), "interval is before 2020"),
        (reading(|r| r.machine_id = "".into()), "machine_id must be 1 to 128 bytes without spaces"),
        (reading(|r| r.site = "a b".into()), "site must be 1 to 128 bytes without spaces"),
        (reading(|r| r.co2e_location_mg += 1), "co2e_location_mg is 112 mg, but 1000000 mJ x 400000 mg/kWh are 111 mg"),
        (reading(|r| r.co2e_market_mg = Some(1)), "method, market_factor and co2e_market_mg do not fit together"),
        (reading(|r| r.factor.table_sha256 = "x".into()), "table_sha256 must be 64 lower-case hexadecimal digits"),
        (reading(|r| r.factor.year = 3), "the factor's year is 3"),
        (
            reading(|r| r.parts = Some(Parts { avoided: 0, made: 1, scrapped: 2 })),
            "parts.scrapped is 2, more than the 1 made",
        ),
        (Entry::Heartbeat(Heartbeat { at_us: 1 }), "at_us is before 2020"),
        (Entry::FactorSet(FactorSet { set_at_us: EARLIEST_US, ..FactorSet::default() }), "factors is empty"),
    ] {
        assert_eq!(says(&entry), expected);
    }
    let mut set = carbon::built_in(EARLIEST_US);
    set.factors[0].value += 1;
    assert_eq!(says(&Entry::FactorSet(set)), "table_sha256 is not the hash of the factors");
}

#[test]
fn bytes_that_are_no_entry_have_their_message() {
    let good = String::from_utf8(reading(|_| ()).to_bytes()).unwrap();
    let check = |text: &str| Entry::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(check("{}"), "field 'type' is missing");
    assert_eq!(check(r#"{"type":"x"}"#), "there is no entry type 'x'");
    assert_eq!(
        check(&good.replace(r#""up""#, r#""on""#)),
        "byte 700: 'status' is 'on', not one of: up, down".replace("700", &good.find(r#""up""#).unwrap().to_string())
    );
    assert!(check(&good.replace("1000000,", "1000000.0,")).contains("only integers are accepted"));
    assert!(check(&good.replace("\"seq\":1", "\"seq\":NaN")).contains("an integer is expected here"));
    assert!(check(&good.replace(",\"seq\"", ", \"seq\"")).contains("field 'seq' is missing"));
    assert!(check(&good.replace("esg-ledger/1", "esg-ledger/9")).contains("'schema' must be 'esg-ledger/1'"));
    assert!(
        check(&format!("{good} ")).contains("missing") || check(&format!("{good} ")).contains("nothing may follow")
    );
    assert_eq!(check(&" ".repeat(70_000)), "the entry has 70000 bytes, more than the 65535 that fit");
}

proptest! {
    #[test]
    fn a_changed_byte_is_refused_or_another_meaning(at in 0usize..2_000, byte: u8) {
        let entry = reading(|_| ());
        let mut bytes = entry.to_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(other) = Entry::parse(&bytes) {
            prop_assert_ne!(&other, &entry);
            prop_assert_eq!(other.to_bytes(), bytes);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Entry::parse(&bytes);
    }
}
