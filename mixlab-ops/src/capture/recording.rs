//! What one open session has seen so far.

use std::collections::{BTreeMap, HashMap};

use burn_backend::{DType, TensorData};
use burn_ir::{OperationIr, TensorId, TensorIr};

use super::CaptureError;
use super::ledger::Ledger;
use super::operations::name;
use super::own::OwnOp;
use super::prune::without_initialization;

/// An operation, and what burn-ir does not say of it.
#[derive(Clone)]
pub(super) struct Recorded {
    pub(super) operation: OperationIr,
    /// The op of ours that it is.
    pub(super) own: Option<OwnOp>,
    /// The part of the model that it belongs to.
    pub(super) scope: Option<usize>,
}

/// Everything a program is made of, under the tensor ids of the session.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) inputs: Vec<(String, TensorIr)>,
    pub(super) parameters: Vec<(Vec<String>, TensorIr)>,
    pub(super) constants: BTreeMap<TensorId, TensorData>,
    pub(super) operations: Vec<Recorded>,
    /// Names of values.
    pub(super) labels: HashMap<TensorId, String>,
    pub(super) outputs: Vec<(String, TensorIr)>,
}

/// The state of an open session.
pub(super) struct Recording {
    /// Number of the session, never given twice.
    pub(super) session: u32,
    /// A misuse that spoils the program even if the panic it raised was caught.
    pub(super) fault: Option<CaptureError>,
    /// The part of the model that runs.
    pub(super) scope: Option<usize>,
    /// The tensor whose data were asked for last, as people find it.
    pub(super) read: Option<String>,
    /// The type of activations of the device that this stands for, where products are in half width.
    pub(super) half: Option<DType>,
    /// What its tensors would hold.
    pub(super) ledger: Ledger,
    draft: Draft,
    next: u32,
    /// Place in `draft.parameters` of each tensor there.
    parameters: HashMap<TensorId, usize>,
    /// How many operations there were when the first input was made: those built the module.
    built: Option<usize>,
}

impl Recording {
    pub(super) fn new(session: u32) -> Self {
        Self {
            session,
            fault: None,
            scope: None,
            read: None,
            half: None,
            ledger: Ledger::default(),
            draft: Draft::default(),
            next: 0,
            parameters: HashMap::new(),
            built: None,
        }
    }

    /// A new id. The upper half says whose it is, so that no tensor is mistaken for one of another
    /// session.
    pub(super) fn new_id(&mut self) -> TensorId {
        let id = TensorId::new(u64::from(self.session) << 32 | u64::from(self.next));
        self.next += 1;
        id
    }

    /// Appends an operation, unless an input of it belongs to another session.
    pub(super) fn operation(
        &mut self,
        operation: OperationIr,
        own: Option<OwnOp>,
    ) -> Result<(), CaptureError> {
        if operation.inputs().any(|input| !self.owns(input)) {
            return Err(self.foreign(&name(&operation)));
        }
        let in_place = own.as_ref().is_some_and(OwnOp::is_in_place);
        self.ledger.operation(&operation, in_place);
        self.draft.operations.push(Recorded { operation, own, scope: self.scope });
        Ok(())
    }

    /// How many operations there are.
    pub(super) fn operations(&self) -> usize {
        self.draft.operations.len()
    }

    /// Names a tensor, unless it has a name.
    pub(super) fn label(&mut self, id: TensorId, name: &str) {
        self.draft.labels.entry(id).or_insert_with(|| name.into());
    }

    /// Keeps the data of a tensor that was not computed.
    pub(super) fn constant(&mut self, data: TensorData) -> TensorId {
        let id = self.new_id();
        self.draft.constants.insert(id, data);
        id
    }

    pub(super) fn input(&mut self, name: &str, tensor: TensorIr) {
        self.built.get_or_insert(self.draft.operations.len());
        self.draft.inputs.push((name.into(), tensor));
    }

    pub(super) fn output(&mut self, name: &str, tensor: TensorIr) {
        if self.owns(&tensor) {
            self.draft.outputs.push((name.into(), tensor));
        } else {
            self.foreign(name);
        }
    }

    /// Notes that `tensor` is the parameter at `path` and forgets its data, if it has any.
    pub(super) fn parameter(&mut self, path: String, tensor: TensorIr) {
        if !self.owns(&tensor) {
            self.foreign(&path);
            return;
        }
        self.draft.constants.remove(&tensor.id);
        let end = self.draft.parameters.len();
        let place = *self.parameters.entry(tensor.id).or_insert(end);
        if place == end {
            self.draft.parameters.push((Vec::new(), tensor));
        }
        let paths = &mut self.draft.parameters[place].0;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }

    /// What was recorded, without the operations that only gave parameters their first values.
    pub(super) fn into_draft(self) -> Result<Draft, CaptureError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut draft = self.draft;
        let outputs = draft.outputs.iter().map(|(_, tensor)| tensor.id).collect();
        draft.operations = without_initialization(
            draft.operations,
            |id| self.parameters.contains_key(&id),
            outputs,
            self.built.unwrap_or(0),
        );
        Ok(draft)
    }

    /// Notes that the data of `tensor` are asked for.
    pub(super) fn read(&mut self, tensor: &TensorIr) {
        let mut found = format!("{}{:?}", tensor.dtype.name(), &tensor.shape[..]);
        let makers: HashMap<TensorId, &OperationIr> = self.makers().collect();
        if let Some(maker) = makers.get(&tensor.id) {
            let inputs = maker.inputs().map(|x| format!("{}{:?}", x.dtype.name(), &x.shape[..]));
            let inputs = inputs.collect::<Vec<_>>().join(", ");
            found += &format!(", the result of `{}` of {inputs}", name(maker));
        }
        if let Some(path) = self.parameter_before(tensor.id, &makers) {
            found += &format!(", after the weight `{path}`");
        }
        self.read = Some(found);
    }

    /// What made each tensor that was computed.
    fn makers(&self) -> impl Iterator<Item = (TensorId, &OperationIr)> {
        let all = self.draft.operations.iter().map(|recorded| &recorded.operation);
        all.flat_map(|operation| operation.outputs().map(move |out| (out.id, operation)))
    }

    /// The path of the parameter that reaches `tensor` through the fewest operations.
    fn parameter_before(
        &self,
        tensor: TensorId,
        makers: &HashMap<TensorId, &OperationIr>,
    ) -> Option<&str> {
        let mut seen: Vec<TensorId> = vec![tensor];
        let mut at = 0;
        while let Some(id) = seen.get(at).copied() {
            if let Some(place) = self.parameters.get(&id) {
                return self.draft.parameters[*place].0.first().map(String::as_str);
            }
            for input in makers.get(&id).into_iter().flat_map(|maker| maker.inputs()) {
                if !seen.contains(&input.id) {
                    seen.push(input.id);
                }
            }
            at += 1;
        }
        None
    }

    fn owns(&self, tensor: &TensorIr) -> bool {
        tensor.id.value() >> 32 == u64::from(self.session)
    }

    fn foreign(&mut self, place: &str) -> CaptureError {
        let error = CaptureError::ForeignTensor { place: place.into() };
        self.fault.get_or_insert(error).clone()
    }
}
