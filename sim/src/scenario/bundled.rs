//! The scenarios that come with the simulator.

use super::file::Scenario;

/// A scenario that comes with the simulator.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// What it is called.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

macro_rules! bundled {
    ($($name:literal),* $(,)?) => {
        /// All of them.
        pub const BUNDLED: &[Bundled] = &[$(
            Bundled { name: $name, text: include_str!(concat!("../../scenarios/", $name, ".toml")) },
        )*];
    };
}

bundled!(
    "flash-crowd-100",
    "flash-crowd-1k",
    "flash-crowd-10k",
    "idle-1k",
    "two-regions",
    "packet-200",
    "tracker",
    "churn",
    "attackers",
    "faults",
    "faults-message",
    "canary",
);

/// The bundled scenario of that name.
pub fn bundled(name: &str) -> Option<Scenario> {
    let bundled = BUNDLED.iter().find(|bundled| bundled.name == name)?;
    Some(Scenario::parse(name, bundled.text).expect("bundled scenarios are sound"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Family;

    #[test]
    fn every_bundled_scenario_is_sound_and_draws() {
        assert_eq!(BUNDLED.len(), 12);
        for Bundled { name, .. } in BUNDLED {
            let scenario = bundled(name).expect("it is there");
            assert_eq!(scenario.name, *name);
            assert!(!scenario.about.is_empty(), "{name} says what it is about");
            for seed in 0..20 {
                for swarm in [false, true] {
                    let plan = scenario.draw(seed, swarm);
                    assert!(plan.hosts.len() > 1, "{name}");
                    assert!(plan.piece_len.is_power_of_two(), "{name}");
                }
            }
        }
    }

    #[test]
    fn the_scenarios_are_as_large_as_their_names_say() {
        for (name, hosts) in
            [("flash-crowd-100", 100), ("flash-crowd-1k", 1_000), ("flash-crowd-10k", 10_000)]
        {
            assert_eq!(bundled(name).expect("there").draw(0, false).hosts.len(), hosts, "{name}");
        }
        assert_eq!(bundled("idle-1k").expect("there").draw(0, false).hosts.len(), 1_001);
    }

    #[test]
    fn the_scenario_of_all_faults_has_all_of_them() {
        for name in ["faults", "faults-message"] {
            let plan = bundled(name).expect("there").draw(0, false);
            assert_eq!(plan.families, Family::ALL, "{name}");
        }
    }

    #[test]
    fn only_the_canary_must_fail() {
        for Bundled { name, .. } in BUNDLED {
            assert_eq!(bundled(name).expect("there").gate.must_fail, *name == "canary");
        }
    }
}
