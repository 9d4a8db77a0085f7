//! Plans of somebody else's making: which weight is in which group, if in any.

use super::super::{OptimizerGroup, OptimizerPlan, StateError, Trainer};
use super::{batch, bits, model, plan};
use crate::weights::{fill, values};

#[test]
fn a_frozen_weight_keeps_its_bits_and_has_no_state() {
    let plan = plan("");
    let frozen = ["w0_embed", "w4_wq"];
    let freeze = |mut plan: OptimizerPlan| {
        for weight in &mut plan.weights {
            if frozen.contains(&&weight.name[..]) {
                weight.group = None;
            }
        }
        plan
    };
    let mut run = Trainer::with_optimizer(model(&plan), &Default::default(), freeze).unwrap();
    let names: Vec<String> =
        run.optimizer().weights.iter().map(|weight| weight.name.clone()).collect();
    let before = bits(run.model());
    (0..3).for_each(|step| run.step(batch(step)).unwrap());
    for ((name, before), after) in names.iter().zip(before).zip(bits(run.model())) {
        assert_eq!(before == after, frozen.contains(&&name[..]), "{name}");
    }
    let mut state = run.state();
    assert!(names.iter().any(|name| name == "w4_wq"), "{names:?}");
    assert!(!state.tensors.keys().any(|key| frozen.iter().any(|name| key.starts_with(name))));
    let weights = values(run.model());
    let same = fill(model(&plan), |i, _| Some(weights[i].clone()));
    let mut resumed = Trainer::with_optimizer(same, &Default::default(), freeze).unwrap();
    resumed.restore(state.clone()).unwrap();
    [&mut run, &mut resumed].into_iter().for_each(|run| run.step(batch(3)).unwrap());
    assert_eq!(bits(resumed.model()), bits(run.model()));
    state.tensors.retain(|name, _| name != "w1_head.m");
    let missing = resumed.restore(state).unwrap_err();
    assert!(matches!(missing, StateError::Missing { name } if name == "w1_head.m"));
}

#[test]
fn a_plan_that_does_not_fit_the_model_is_refused_with_the_weight() {
    let plan = plan("");
    let refused = |change: &dyn Fn(&mut OptimizerPlan)| {
        let changed = |mut plan: OptimizerPlan| {
            change(&mut plan);
            plan
        };
        let run = Trainer::with_optimizer(model(&plan), &Default::default(), changed);
        run.err().expect("a plan that does not fit").to_string()
    };
    let message = refused(&|plan| drop(plan.weights.pop()));
    assert!(message.contains("`nothing` as weight `13`"), "{message}");
    let message = refused(&|plan| plan.weights[2].group = Some(9));
    assert!(message.contains("`w2_final_norm` is in group `9` of `4`"), "{message}");
    let message = refused(&|plan| {
        let muon = plan.weights[3..].iter().find(|w| w.name.ends_with("wq")).unwrap().group;
        plan.weights[2].group = muon;
    });
    assert!(message.contains("Muon cannot update `w2_final_norm`"), "{message}");
    let message = refused(&|plan| plan.weights.iter_mut().for_each(|w| w.group = None));
    assert!(message.contains("every weight is frozen"), "{message}");
}

#[test]
fn groups_may_differ_in_every_number() {
    let plan = plan("");
    let own = |mut plan: OptimizerPlan| {
        let group = OptimizerGroup { beta2: 0.5, epsilon: 1e-3, ..plan.groups[0] };
        plan.groups.push(group);
        plan.weights[1].group = Some(plan.groups.len() - 1);
        plan
    };
    let same = |mut plan: OptimizerPlan| {
        plan.groups.push(plan.groups[0]);
        plan.weights[1].group = Some(plan.groups.len() - 1);
        plan
    };
    let trained = |change: &dyn Fn(OptimizerPlan) -> OptimizerPlan| {
        let mut run = Trainer::with_optimizer(model(&plan), &Default::default(), change).unwrap();
        (0..3).for_each(|step| run.step(batch(step)).unwrap());
        let state = run.state();
        let weights = values(run.model());
        let again = fill(model(&plan), |i, _| Some(weights[i].clone()));
        let mut again = Trainer::with_optimizer(again, &Default::default(), change).unwrap();
        again.restore(state).unwrap();
        [&mut run, &mut again].into_iter().for_each(|run| run.step(batch(3)).unwrap());
        assert_eq!(bits(again.model()), bits(run.model()));
        bits(run.model())
    };
    let default = trained(&|plan| plan);
    assert_eq!(trained(&same), default);
    let changed = trained(&own);
    assert_ne!(changed[1], default[1]);
}
