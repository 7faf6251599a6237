//! One day of alerts, always the same for the same seed.
//!
//! It is made up, and made like the days that people complain of: real failures,
//! each with its symptoms; things that come and go; a night of batch work; a
//! plant with machines; what stays on for hours. Each story says when it would
//! end by itself or by a person's hand, and which repair ends it sooner, if any does.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

/// A second of the day.
pub type Second = u64;

/// One alert's life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Which story it belongs to.
    pub story: usize,
    pub labels: Vec<(&'static str, String)>,
    pub from: Second,
    /// Without a repair.
    pub until: Second,
}

/// What goes wrong, and what helps.
#[derive(Clone, Debug)]
pub struct Story {
    pub name: &'static str,
    /// Restarting or starting this service ends it.
    pub cure: Option<&'static str>,
}

/// A day.
pub struct Day {
    pub stories: Vec<Story>,
    pub lives: Vec<Life>,
    rng: Xoshiro256PlusPlus,
}

pub const LENGTH: Second = 24 * 3600;

fn at(hours: u64, minutes: u64) -> Second {
    hours * 3600 + minutes * 60
}

impl Day {
    pub fn new(seed: u64) -> Self {
        let mut day = Self { stories: Vec::new(), lives: Vec::new(), rng: Xoshiro256PlusPlus::seed_from_u64(seed) };
        day.failures();
        day.comes_and_goes();
        day.night();
        day.plant();
        day.blips();
        day.long();
        day.lives.sort_by(|a, b| (a.from, &a.labels).cmp(&(b.from, &b.labels)));
        day
    }

    fn story(&mut self, name: &'static str, cure: Option<&'static str>) -> usize {
        self.stories.push(Story { name, cure });
        self.stories.len() - 1
    }

    /// Seconds between `low` and `high`.
    fn some(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..=high)
    }

    fn burn(&mut self, story: usize, alert: &str, severity: &str, service: &str, from: Second, lasts: u64) {
        self.burn_on(story, alert, severity, service, None, from, lasts);
    }

    #[allow(clippy::too_many_arguments)]
    fn burn_on(
        &mut self,
        story: usize,
        alert: &str,
        severity: &str,
        service: &str,
        instance: Option<String>,
        from: Second,
        lasts: u64,
    ) {
        // Rules are evaluated every 15 s, and alerts of one cause do not begin in the same one.
        let from = from + self.some(0, 3) * 15;
        let mut labels = vec![
            ("alertname", alert.to_owned()),
            ("severity", severity.to_owned()),
            ("service", service.to_owned()),
            ("team", if service == "transaction-api" { "payments" } else { "platform" }.to_owned()),
        ];
        labels.extend(instance.map(|i| ("instance", i)));
        self.lives.push(Life { story, labels, from, until: (from + lasts).min(LENGTH - 1) });
    }

    fn failures(&mut self) {
        // A hung API at night: somebody has to get up.
        let s = self.story("api hangs", Some("transaction-api"));
        for (alert, severity, after) in [
            ("ContainerUnhealthy", "warning", 0),
            ("ProbeFailed", "critical", 15),
            ("HighErrorRate", "critical", 30),
            ("LogErrorBurst", "warning", 60),
        ] {
            self.burn(s, alert, severity, "transaction-api", at(2, 40) + after, 22 * 60);
        }
        let s = self.story("redis is gone", Some("redis"));
        self.burn(s, "RedisDown", "warning", "redis", at(9, 15), 12 * 60);
        self.burn(s, "ServiceDown", "critical", "redis", at(9, 15), 12 * 60);
        self.burn(s, "HighLatency", "warning", "transaction-api", at(9, 16), 11 * 60);
        // A bad release: no restart helps.
        let s = self.story("bad release", None);
        self.burn(s, "HighErrorRate", "critical", "transaction-api", at(11, 5), 35 * 60);
        self.burn(s, "LogErrorBurst", "warning", "transaction-api", at(11, 6), 34 * 60);
        self.burn(s, "ErrorBudgetBurnPageFast", "critical", "transaction-api", at(11, 8), 40 * 60);
        self.burn(s, "ErrorBudgetBurnPageSlow", "critical", "transaction-api", at(11, 20), 70 * 60);
        // One cause with many dependants.
        let s = self.story("database is down", Some("postgres"));
        self.burn(s, "ServiceDown", "critical", "postgres", at(14, 20), 18 * 60);
        self.burn(s, "PostgresDown", "critical", "postgres", at(14, 20), 18 * 60);
        self.burn(s, "DatabaseErrors", "critical", "postgres", at(14, 21), 18 * 60);
        for service in ["transaction-api", "auth-api", "payment-api", "inventory-api", "notification-worker"] {
            for (alert, severity) in
                [("HighErrorRate", "critical"), ("LogErrorBurst", "warning"), ("ProbeFailed", "critical")]
            {
                self.burn(s, alert, severity, service, at(14, 21), 18 * 60);
            }
        }
        let s = self.story("lake is down", Some("lake"));
        self.burn(s, "DataLakeUnavailable", "critical", "lake", at(6, 10), 25 * 60);
        self.burn(s, "ServiceDown", "critical", "lake", at(6, 10), 25 * 60);
        self.burn(s, "HighResponseDelay", "warning", "drift-inference", at(6, 11), 25 * 60);
        self.burn(s, "AccuracyLow", "critical", "drift-inference", at(6, 14), 30 * 60);
        for machine in 0..12 {
            let (from, instance) = (at(6, 12) + self.some(0, 120), format!("machine-{machine:02}"));
            self.burn_on(s, "EsgDataGap", "warning", "telemetry-generator", Some(instance), from, 24 * 60);
        }
        // A leak that comes back.
        for hour in [17, 20] {
            let s = self.story("memory leak", Some("drift-inference"));
            self.burn(s, "ContainerMemory", "warning", "drift-inference", at(hour, 30), 50 * 60);
        }
        // A held lock: looked at, not restarted.
        let s = self.story("held lock", None);
        self.burn(s, "DatabaseSlow", "critical", "postgres", at(19, 0), 18 * 60);
        self.burn(s, "HighLatency", "warning", "transaction-api", at(19, 1), 17 * 60);
        self.burn(s, "HighLatencyP95", "warning", "transaction-api", at(19, 2), 17 * 60);
        // The network hiccups: every exporter is missed at once.
        let s = self.story("network", None);
        for job in ["node-exporter", "redis-exporter", "postgres-exporter", "blackbox-exporter", "loki", "tempo"] {
            self.burn(s, "TargetDown", "warning", job, at(16, 45), 6 * 60);
            self.burn(s, "TelemetryGap", "warning", job, at(16, 47), 12 * 60);
        }
        let s = self.story("otel-collector dies", Some("otel-collector"));
        self.burn(s, "ServiceDown", "critical", "otel-collector", at(22, 5), 15 * 60);
        self.burn(s, "CollectorExportFailing", "critical", "otel-collector", at(22, 6), 14 * 60);
    }

    fn comes_and_goes(&mut self) {
        for (name, alert, service, from, until, on, off) in [
            ("cpu near its limit", "HighCPU", "host", at(13, 0), at(16, 0), 180, 240),
            ("a slow tail", "HighLatencyP95", "transaction-api", at(10, 0), at(11, 0), 120, 360),
            ("a shaky probe", "ProbeFailed", "gateway", at(20, 30), at(23, 30), 75, 420),
            ("a shaky health check", "ContainerUnhealthy", "notification-receiver", at(3, 30), at(5, 30), 90, 600),
            ("errors now and then", "LogErrorBurst", "payment-api", at(7, 0), at(9, 0), 150, 300),
        ] {
            let s = self.story(name, None);
            let severity = if alert == "ProbeFailed" { "critical" } else { "warning" };
            let mut now = from;
            while now < until {
                let lasts = on + self.some(0, 90);
                self.burn(s, alert, severity, service, now, lasts);
                now += lasts + off + self.some(0, 120);
            }
        }
    }

    fn night(&mut self) {
        let s = self.story("backup", None);
        self.burn(s, "HighCPU", "warning", "host", at(1, 0), 65 * 60);
        self.burn(s, "HighMemory", "warning", "host", at(1, 20), 25 * 60);
        self.burn(s, "DiskFillingUp", "warning", "host", at(1, 10), 40 * 60);
        for _ in 0..8 {
            let (from, lasts) = (at(1, 0) + self.some(0, 4000), self.some(60, 120));
            self.burn(s, "HighLatencyP95", "warning", "transaction-api", from, lasts);
        }
    }

    fn plant(&mut self) {
        let s = self.story("cooling fails", None);
        for machine in 3..6 {
            let instance = format!("machine-{machine:02}");
            let from = at(15, 10) + self.some(0, 300);
            self.burn_on(
                s,
                "MachineOverheating",
                "critical",
                "telemetry-generator",
                Some(instance.clone()),
                from,
                25 * 60,
            );
            self.burn_on(s, "MachineDown", "warning", "telemetry-generator", Some(instance), from + 600, 30 * 60);
        }
        for shift in [6, 14, 22] {
            let s = self.story("change of shift", None);
            for machine in 7..12 {
                let (from, lasts) = (at(shift, 0) + self.some(0, 240), self.some(300, 700));
                let instance = format!("machine-{machine:02}");
                self.burn_on(s, "MachineDown", "warning", "telemetry-generator", Some(instance), from, lasts);
            }
        }
        let s = self.story("readings lost", None);
        for _ in 0..10 {
            let (from, lasts) = (self.some(0, LENGTH - 1000), self.some(120, 300));
            let instance = format!("machine-{:02}", self.some(0, 11));
            self.burn_on(s, "EsgDataGap", "warning", "telemetry-generator", Some(instance), from, lasts);
        }
    }

    /// Over before anybody has looked.
    fn blips(&mut self) {
        let s = self.story("blips", None);
        for i in 0..24 {
            let (alert, severity, service) = [
                ("HighLatency", "warning", "transaction-api"),
                ("HighErrorRate", "critical", "inventory-api"),
                ("ProbeFailed", "critical", "auth-api"),
                ("LogErrorBurst", "warning", "drift-inference"),
            ][i % 4];
            let (from, lasts) = (self.some(0, LENGTH - 1000), self.some(40, 100));
            self.burn(s, alert, severity, service, from, lasts);
        }
    }

    fn long(&mut self) {
        let s = self.story("full cache", None);
        self.burn(s, "RedisMemory", "warning", "redis", at(8, 0), 9 * 3600);
        let s = self.story("spent budget", None);
        self.burn(s, "ErrorBudgetExhausted", "warning", "transaction-api", at(11, 40), 10 * 3600);
        let s = self.story("drifted model", None);
        self.burn(s, "DistributionDrift", "warning", "drift-inference", at(5, 0), 14 * 3600);
    }
}
