//! `teem sim list`: the scenarios that come with the program.

use serde_json::json;
use teem_sim::scenario::{BUNDLED, bundled};

use super::args::List;
use crate::failure::Failure;
use crate::report::json::write;
use crate::{Outcome, report, size};

pub(crate) fn run(list: &List) -> Outcome {
    if let Some(name) = &list.name {
        let Some(found) = BUNDLED.iter().find(|bundled| bundled.name == name) else {
            return Err(Failure::Input(format!(
                "there is no scenario \"{name}\"; `teem sim list` lists those that there are"
            )));
        };
        report::line(found.text.trim_end());
        return Ok(());
    }
    if !list.json {
        report::line(&format!("{:<16} {:>7} {:>9}  about", "name", "hosts", "content"));
    }
    for entry in BUNDLED {
        let scenario = bundled(entry.name).expect("it is there");
        let plan = scenario.draw(0, false);
        if list.json {
            write(
                "scenario",
                json!({
                    "name": entry.name, "about": scenario.about, "fidelity": scenario.fidelity.name(),
                    "hosts": plan.hosts.len(), "content_bytes": plan.content_len,
                    "piece_bytes": plan.piece_len, "must_fail": scenario.gate.must_fail,
                    "families": plan.families.iter().map(|f| f.name()).collect::<Vec<_>>(),
                }),
            );
        } else {
            report::line(&format!(
                "{:<16} {:>7} {:>9}  {}",
                entry.name,
                plan.hosts.len(),
                size::show(plan.content_len),
                scenario.about
            ));
        }
    }
    if !list.json {
        report::hint(
            "hosts and content are those of seed 0; `teem sim list NAME` prints a scenario's file",
        );
    }
    Ok(())
}
