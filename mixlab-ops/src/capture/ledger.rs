//! Bytes that the tensors of a recording would hold: each is counted from the operation that makes
//! it until nobody holds it, views with what they look at.

use std::collections::HashMap;

use burn::tensor::TensorMetadata;
use burn_ir::{BaseOperationIr, OperationIr, TensorId, TensorIr, TensorStatus};
use burn_router::{RouterTensor, RunnerClient};

/// Memory of tensors, as it grows and shrinks.
#[derive(Default)]
pub(super) struct Ledger {
    /// The storage of each tensor that somebody holds.
    tensors: HashMap<TensorId, Hold>,
    storages: HashMap<usize, Storage>,
    next: usize,
    held: u64,
    peak: u64,
    /// Storages of each size in bytes: how many exist now, and the most that ever did.
    sizes: HashMap<u64, [usize; 2]>,
    reserved: u64,
}

#[derive(Clone, Copy)]
struct Hold {
    storage: usize,
    /// Whether its elements lie in another order than its shape says, so that a new shape is a copy.
    strided: bool,
}

struct Storage {
    bytes: u64,
    holders: usize,
}

impl Ledger {
    /// Bytes held now.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// The most bytes held at once since the last call.
    pub(super) fn take_peak(&mut self) -> u64 {
        std::mem::replace(&mut self.peak, self.held)
    }

    /// Bytes of all storages there would be, were each kept for the next tensor of its size.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    /// A tensor of its own comes into being.
    pub(super) fn make(&mut self, id: TensorId, bytes: u64) {
        let storage = self.next;
        self.next += 1;
        self.storages.insert(storage, Storage { bytes, holders: 1 });
        self.tensors.insert(id, Hold { storage, strided: false });
        self.held = self.held.saturating_add(bytes);
        self.peak = self.peak.max(self.held);
        let [now, most] = self.sizes.entry(bytes).or_default();
        *now += 1;
        if now > most {
            *most = *now;
            self.reserved = self.reserved.saturating_add(bytes);
        }
    }

    /// An operation runs, maybe writing results over what only it held: else they come into being
    /// before that goes.
    pub(super) fn operation(&mut self, operation: &OperationIr, in_place: bool) {
        let consumed = |x: &&TensorIr| x.status == TensorStatus::ReadWrite;
        let consumed: Vec<&TensorIr> = operation.inputs().filter(consumed).collect();
        let view = view(operation);
        let over = in_place || element_wise(operation);
        for out in operation.outputs() {
            let source = view.and_then(|strides| Some((strides, operation.inputs().next()?.id)));
            match source.and_then(|(strides, id)| self.seen_through(id, strides)) {
                Some(hold) => self.share(out.id, hold),
                None if over && self.written_over(out, &consumed) => {}
                None => self.make(out.id, bytes(out)),
            }
        }
        consumed.iter().for_each(|x| self.release(x.id));
    }

    /// Nobody holds a tensor any more.
    pub(super) fn release(&mut self, id: TensorId) {
        let Some(Hold { storage: number, .. }) = self.tensors.remove(&id) else { return };
        let Some(storage) = self.storages.get_mut(&number) else { return };
        storage.holders -= 1;
        if storage.holders == 0 {
            let bytes = storage.bytes;
            self.held = self.held.saturating_sub(bytes);
            self.storages.remove(&number);
            if let Some([now, _]) = self.sizes.get_mut(&bytes) {
                *now -= 1;
            }
        }
    }

    /// How a view of `id` holds what `id` looks at; none where it would be a copy.
    fn seen_through(&self, id: TensorId, strides: Strides) -> Option<Hold> {
        let hold = *self.tensors.get(&id)?;
        match strides {
            Strides::Changed => Some(Hold { strided: true, ..hold }),
            Strides::Kept => Some(hold),
            Strides::Needed => Some(hold).filter(|hold| !hold.strided),
        }
    }

    fn share(&mut self, id: TensorId, hold: Hold) {
        if let Some(storage) = self.storages.get_mut(&hold.storage) {
            storage.holders += 1;
        }
        self.tensors.insert(id, hold);
    }

    /// Whether the result takes the place of an operand that nobody else holds.
    fn written_over(&mut self, out: &TensorIr, consumed: &[&TensorIr]) -> bool {
        let fits = |x: &&&TensorIr| {
            let hold = self.tensors.get(&x.id).filter(|hold| !hold.strided);
            let storage = hold.and_then(|hold| self.storages.get(&hold.storage));
            let alone = storage.is_some_and(|s| s.holders == 1 && s.bytes == bytes(out));
            x.shape == out.shape && x.dtype == out.dtype && alone
        };
        let Some(place) = consumed.iter().find(fits) else { return false };
        let hold = self.tensors[&place.id];
        self.share(out.id, hold);
        true
    }
}

/// Whether an operation of Burn's is: its result may take the place of an operand.
fn element_wise(operation: &OperationIr) -> bool {
    matches!(
        operation,
        OperationIr::NumericFloat(..) | OperationIr::NumericInt(..) | OperationIr::Float(..)
    )
}

/// What an operation that moves no element does to the order in which they lie.
#[derive(Clone, Copy)]
pub(super) enum Strides {
    Changed,
    Kept,
    /// Only a view if elements lie in the order of their shape.
    Needed,
}

/// How an operation of Burn's is a view of its first input, if it is one.
pub(super) fn view(operation: &OperationIr) -> Option<Strides> {
    let (OperationIr::BaseFloat(base) | OperationIr::BaseInt(base) | OperationIr::BaseBool(base)) =
        operation
    else {
        return None;
    };
    match base {
        BaseOperationIr::SwapDims(_)
        | BaseOperationIr::Permute(_)
        | BaseOperationIr::Expand(_)
        | BaseOperationIr::Slice(_) => Some(Strides::Changed),
        BaseOperationIr::Flip(_) => Some(Strides::Kept),
        BaseOperationIr::Reshape(_) => Some(Strides::Needed),
        _ => None,
    }
}

fn bytes(tensor: &TensorIr) -> u64 {
    let elements = tensor.shape.iter().fold(1u64, |n, axis| n.saturating_mul(*axis as u64));
    elements.saturating_mul(tensor.dtype.size() as u64)
}

/// The bytes of a tensor of the router.
pub(super) fn bytes_of<C: RunnerClient>(tensor: &RouterTensor<C>) -> u64 {
    let shape = tensor.shape();
    let elements = shape.iter().fold(1u64, |n, axis| n.saturating_mul(*axis as u64));
    elements.saturating_mul(tensor.dtype().size() as u64)
}
