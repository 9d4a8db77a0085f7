//! Capturing from the user's side.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Shape, Tensor, TensorPrimitive, get_device_settings};
use burn_ir::TensorIr;
use burn_router::RouterTensor;

use super::assemble::assemble;
use super::client::{Capture, CaptureClient, CaptureDevice, NO_DATA};
use super::slot::{POOL, Slot};
use super::{CaptureError, Program};
use crate::plumbing::said;

/// Builds a module, runs its forward once and returns what it did.
///
/// `build` makes the module on the device that it is given; `forward` makes the inputs, runs the
/// module and names the outputs. Parameters are found by visiting the module in between.
///
/// # Errors
///
/// [`CaptureError::DataRead`] and [`CaptureError::Panicked`] if one of the two panics, otherwise as
/// [`Session::new`] and [`Session::finish`].
pub fn capture<M: Module<Capture>>(
    build: impl FnOnce(&CaptureDevice) -> M,
    forward: impl FnOnce(&M, &Session),
) -> Result<Program, CaptureError> {
    Session::new()?.complete(|session| {
        let module = build(session.device());
        session.params(&module);
        forward(&module, session);
    })
}

/// Opens a session, and returns what `act` tells of it: how much memory its tensors would take.
///
/// # Errors
///
/// As [`capture`], without those of [`Session::finish`].
pub fn watch<T>(act: impl FnOnce(&Session) -> T) -> Result<T, CaptureError> {
    Ok(Session::new()?.attempt(act)?.1)
}

/// [`watch`], and the program of what `act` did: all that it did, for nothing has to be an output.
///
/// # Errors
///
/// As [`capture`].
pub fn watch_program<T>(act: impl FnOnce(&Session) -> T) -> Result<(Program, T), CaptureError> {
    let (session, told) = Session::new()?.attempt(act)?;
    Ok((session.finish()?, told))
}

/// An open recording on a device of its own.
///
/// [`capture`] is the short way; a session is for several modules, or for modules that exist
/// already. Sessions do not see each other and can be used from many threads. Dropping one frees
/// its device.
pub struct Session {
    slot: Arc<Slot>,
    number: u32,
    device: CaptureDevice,
    client: CaptureClient,
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Exhausted`] if 65,535 are open.
    pub fn new() -> Result<Self, CaptureError> {
        let (slot, number) = POOL.open()?;
        let device = CaptureDevice::new(&slot, number);
        let client = CaptureClient::new(slot.clone(), number);
        // Fixes the default types: Burn lets them be chosen once per device id, and the choice
        // would reach all later sessions.
        get_device_settings::<Capture>(&device);
        Ok(Self { slot, number, device, client })
    }

    /// The device to build the module and its tensors on.
    pub fn device(&self) -> &CaptureDevice {
        &self.device
    }

    /// Says that activations are of type `half` on the device that this session stands for, where
    /// matrix products have bfloat16 operands ([`Backend::half`](crate::Backend::half)).
    pub fn set_half(&self, half: Option<DType>) {
        if let Some(recording) = self.slot.recording().as_mut() {
            recording.half = half;
        }
    }

    /// Bytes of the tensors that somebody holds now, if they existed. A view takes none; the result
    /// of an element-wise operation takes the place of an operand that nobody else holds.
    pub fn held(&self) -> u64 {
        self.slot.recording().as_ref().map_or(0, |recording| recording.ledger.held())
    }

    /// The most that [`Session::held`] was since the last call.
    pub fn take_peak(&self) -> u64 {
        self.slot.recording().as_mut().map_or(0, |recording| recording.ledger.take_peak())
    }

    /// Operations recorded so far, those that built the module among them.
    pub fn operations(&self) -> usize {
        self.slot.recording().as_ref().map_or(0, |recording| recording.operations())
    }

    /// What an allocator takes that keeps each buffer for the next tensor of its size: those of a
    /// size that were held at once, summed over all sizes.
    pub fn reserved(&self) -> u64 {
        self.slot.recording().as_ref().map_or(0, |recording| recording.ledger.reserved())
    }

    pub(super) fn client(&self) -> &CaptureClient {
        &self.client
    }

    /// Tells that `tensor` is the parameter at `path`.
    pub(super) fn parameter(&self, path: String, tensor: impl Into<Captured>) {
        let Captured(tensor) = tensor.into();
        if let Some(recording) = self.slot.recording().as_mut() {
            recording.parameter(path, tensor);
        }
    }

    /// A new input of the forward. Rank and type may be known at run time only.
    ///
    /// Operations from before the first input count as building the module: those whose results
    /// nothing reads are no part of the program.
    pub fn input(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> RouterTensor<CaptureClient> {
        let shape = shape.into();
        self.client.tensor(shape.clone(), dtype, |recording| {
            let id = recording.new_id();
            recording.input(name, TensorIr::uninit(id, shape, dtype));
            id
        })
    }

    /// A new `f32` input.
    pub fn input_float<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<Capture, D> {
        let input = self.input(name, shape, DType::F32);
        Tensor::from_primitive(TensorPrimitive::Float(input))
    }

    /// A new `i64` input.
    pub fn input_int<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
    ) -> Tensor<Capture, D, Int> {
        Tensor::from_primitive(self.input(name, shape, DType::I64))
    }

    /// A new `bool` input.
    pub fn input_bool<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
    ) -> Tensor<Capture, D, Bool> {
        let dtype = get_device_settings::<Capture>(&self.device).bool_dtype.into();
        Tensor::from_primitive(self.input(name, shape, dtype))
    }

    /// Tells which tensors are the parameters of `module`, by the names of its fields.
    ///
    /// Parameters that have no value yet are given one, which records the operations of their
    /// initializer and allocates nothing; the program leaves them out. Fields that share a tensor
    /// become one parameter with several paths.
    ///
    /// # Panics
    ///
    /// If a parameter cannot be initialized on this backend.
    pub fn params<M: Module<Capture>>(&self, module: &M) {
        module.visit(&mut Parameters { session: self, path: Vec::new() });
    }

    /// Names a result of the forward. Tensors of any rank and type are taken.
    pub fn output(&self, name: &str, tensor: impl Into<Captured>) {
        let Captured(tensor) = tensor.into();
        if let Some(recording) = self.slot.recording().as_mut() {
            recording.output(name, tensor);
        }
    }

    /// Closes the session and returns the program.
    ///
    /// # Errors
    ///
    /// [`CaptureError::ForeignTensor`] if an operation, output or parameter was of another session,
    /// [`CaptureError::DuplicateName`] for a name that is taken, [`CaptureError::Undefined`] and
    /// [`CaptureError::DefinedTwice`] for tensors that an operation was made to name.
    pub fn finish(self) -> Result<Program, CaptureError> {
        let recording = POOL.close(&self.slot, self.number).ok_or(CaptureError::Closed)?;
        assemble(recording.into_draft()?)
    }

    /// The program of what `act` does, or why it panicked.
    pub(super) fn complete(self, act: impl FnOnce(&Self)) -> Result<Program, CaptureError> {
        let (session, ()) = self.attempt(act)?;
        session.finish()
    }

    /// What `act` returns, or why it panicked.
    fn attempt<T>(self, act: impl FnOnce(&Self) -> T) -> Result<(Self, T), CaptureError> {
        // What a panic may leave half done is what `act` made, which ends there, and the recording,
        // which is thrown away.
        match catch_unwind(AssertUnwindSafe(|| act(&self))) {
            Ok(result) => Ok((self, result)),
            Err(panic) => Err(self.explain(&*panic)),
        }
    }

    /// Why the forward panicked.
    fn explain(self, panic: &(dyn Any + Send)) -> CaptureError {
        let message = said(panic).unwrap_or("no text").to_owned();
        let recording = POOL.close(&self.slot, self.number);
        let (fault, read) = recording.map_or((None, None), |open| (open.fault, open.read));
        match (fault, read) {
            (Some(fault), _) => fault,
            (None, Some(tensor)) if message.contains(NO_DATA) => {
                CaptureError::DataRead { tensor, message }
            }
            (None, _) => CaptureError::Panicked { message },
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        POOL.close(&self.slot, self.number);
    }
}

/// A tensor of [`Capture`] whose rank and type are forgotten.
pub struct Captured(TensorIr);

impl From<RouterTensor<CaptureClient>> for Captured {
    fn from(tensor: RouterTensor<CaptureClient>) -> Self {
        Self(tensor.into_ir())
    }
}

impl<const D: usize> From<Tensor<Capture, D>> for Captured {
    fn from(tensor: Tensor<Capture, D>) -> Self {
        tensor.into_primitive().tensor().into()
    }
}

impl<const D: usize> From<Tensor<Capture, D, Int>> for Captured {
    fn from(tensor: Tensor<Capture, D, Int>) -> Self {
        tensor.into_primitive().into()
    }
}

impl<const D: usize> From<Tensor<Capture, D, Bool>> for Captured {
    fn from(tensor: Tensor<Capture, D, Bool>) -> Self {
        tensor.into_primitive().into()
    }
}

/// Collects parameters with the field names that lead to them.
struct Parameters<'a> {
    session: &'a Session,
    path: Vec<String>,
}

impl Parameters<'_> {
    fn add(&self, tensor: impl Into<Captured>) {
        self.session.parameter(self.path.join("."), tensor);
    }
}

impl ModuleVisitor<Capture> for Parameters<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Capture, D>>) {
        self.add(param.val());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<Capture, D, Int>>) {
        self.add(param.val());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<Capture, D, Bool>>) {
        self.add(param.val());
    }
}
