//! Runs: a plan, carried out and checked.

mod plan;

pub use plan::{Choking, Family, Fault, HostPlan, Leaves, PickOrder, Plan, Preload, Role};
