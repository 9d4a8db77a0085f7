//! The backend: what the router calls for each operation.

use std::convert::Infallible;
use std::sync::Arc;

use burn::tensor::{DType, Shape, TensorData};
use burn_backend::DTypeUsageSet;
use burn_backend::backend::{DeviceId, DeviceOps, ExecutionError};
use burn_ir::{OperationIr, TensorId, TensorIr};
use burn_router::{
    BackendRouter, MultiBackendBridge, RouterTensor, RunnerChannel, RunnerClient, get_client,
};
use burn_std::device::Device;
use burn_std::future::DynFut;

use super::CaptureError;
use super::ledger::bytes_of;
use super::own::OwnOp;
use super::recording::Recording;
use super::slot::{POOL, Slot};

/// The backend that records operations and executes none.
///
/// Default types are `f32`, `i64` and `bool`.
pub type Capture = BackendRouter<CaptureChannel>;

/// What is said to those who read the data of a tensor.
pub(super) const NO_DATA: &str = "a capture computes nothing, so a tensor has no data to read";

/// The device of one [`Session`](super::Session).
///
/// Works as long as its session is open. The default device has no session: every operation on it
/// panics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptureDevice {
    index: u16,
    session: u32,
}

impl CaptureDevice {
    pub(super) fn new(slot: &Slot, session: u32) -> Self {
        Self { index: slot.index, session }
    }

    /// The id that the router knows this device by.
    #[cfg(test)]
    pub(super) fn index(&self) -> u16 {
        self.index
    }
}

impl Device for CaptureDevice {
    fn from_id(id: DeviceId) -> Self {
        let session = POOL.slot(id.index_id).session();
        session.map_or_else(Self::default, |session| Self { index: id.index_id, session })
    }

    /// That of the default device once the session is over: the id may be another session's by then.
    fn to_id(&self) -> DeviceId {
        let open = POOL.slot(self.index).session() == Some(self.session);
        DeviceId { type_id: 0, index_id: if open { self.index } else { 0 } }
    }
}

impl DeviceOps for CaptureDevice {}

/// What tensors of [`Capture`] hold on to: the session that they belong to.
#[derive(Clone)]
pub struct CaptureClient {
    slot: Arc<Slot>,
    /// None in the router's cache, where a client serves all sessions of a device id, one after
    /// another. Tensors have it, and so cannot reach a later session.
    session: Option<u32>,
}

impl CaptureClient {
    pub(super) fn new(slot: Arc<Slot>, session: u32) -> Self {
        Self { slot, session: Some(session) }
    }

    /// Lets `act` change the recording of the session.
    ///
    /// # Panics
    ///
    /// If the session is over, or with the error of `act`.
    pub(super) fn record<R>(
        &self,
        act: impl FnOnce(&mut Recording) -> Result<R, CaptureError>,
    ) -> R {
        let mut guard = self.slot.recording();
        let open = guard.as_mut().filter(|open| self.session.is_none_or(|own| own == open.session));
        let result = match open {
            Some(recording) => act(recording),
            None => Err(CaptureError::Closed),
        };
        drop(guard);
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a tensor of the session with a new id.
    pub(super) fn tensor(
        &self,
        shape: Shape,
        dtype: DType,
        id: impl FnOnce(&mut Recording) -> TensorId,
    ) -> RouterTensor<Self> {
        let (id, session) = self.record(|recording| Ok((id(recording), recording.session)));
        let tensor = RouterTensor::new(id, shape, dtype, Self::new(self.slot.clone(), session));
        let bytes = bytes_of(&tensor);
        self.record(|recording| {
            recording.ledger.make(id, bytes);
            Ok(())
        });
        tensor
    }
}

impl CaptureClient {
    /// Records an operation of ours, and the op that it is.
    pub(super) fn own(&self, operation: OperationIr, own: OwnOp) -> Vec<RouterTensor<Self>> {
        self.made(operation, |client, operation| {
            client.record(|recording| recording.operation(operation, Some(own)));
        })
    }

    /// Notes that nobody holds a tensor any more, if its session is still open.
    fn drop(&self, tensor: TensorIr) {
        let mut recording = self.slot.recording();
        let open = recording.as_mut().filter(|open| self.session == Some(open.session));
        if let Some(open) = open {
            open.ledger.release(tensor.id);
        }
    }

    /// The results of an operation that `register` records.
    fn made(
        &self,
        operation: OperationIr,
        register: impl FnOnce(&Self, OperationIr),
    ) -> Vec<RouterTensor<Self>> {
        let session = self.record(|recording| Ok(recording.session));
        let client = Self::new(self.slot.clone(), session);
        let outputs = operation
            .outputs()
            .map(|out| RouterTensor::new(out.id, out.shape.clone(), out.dtype, client.clone()));
        let outputs = outputs.collect();
        register(&client, operation);
        outputs
    }
}

impl RunnerClient for CaptureClient {
    type Device = CaptureDevice;

    fn register_op(&self, operation: OperationIr) {
        match operation {
            // Tensors may be dropped at any time, also after their session.
            OperationIr::Drop(tensor) => self.drop(tensor),
            // Announces what `register_tensor_data` has recorded.
            OperationIr::Init(_) => {}
            operation => self.record(|recording| recording.operation(operation, None)),
        }
    }

    fn register(&self, operation: OperationIr) -> Vec<RouterTensor<Self>> {
        self.made(operation, |client, operation| client.register_op(operation))
    }

    fn read_tensor_async(&self, tensor: TensorIr) -> DynFut<Result<TensorData, ExecutionError>> {
        if let Some(recording) = self.slot.recording().as_mut() {
            recording.read(&tensor);
        }
        // An error and not a panic, since printing a tensor does without its data.
        Box::pin(async { Err(ExecutionError::WithContext { reason: NO_DATA.into() }) })
    }

    fn sync(&self) -> Result<(), ExecutionError> {
        Ok(())
    }

    fn create_empty_handle(&self) -> TensorId {
        self.record(|recording| Ok(recording.new_id()))
    }

    fn register_tensor_data(&self, data: TensorData) -> RouterTensor<Self> {
        let (shape, dtype) = (data.shape.clone(), data.dtype);
        self.tensor(shape, dtype, |recording| recording.constant(data))
    }

    fn device(&self) -> CaptureDevice {
        let session = self.session.or_else(|| self.slot.session());
        session.map_or_else(CaptureDevice::default, |own| CaptureDevice::new(&self.slot, own))
    }

    fn seed(&self, _: u64) {}

    fn dtype_usage(&self, _: DType) -> DTypeUsageSet {
        DTypeUsageSet::all()
    }
}

/// How the router finds the session of a device.
#[derive(Clone)]
pub struct CaptureChannel;

impl RunnerChannel for CaptureChannel {
    type Device = CaptureDevice;
    type Bridge = NoBridge;
    type Client = CaptureClient;
    type FloatElem = f32;
    type IntElem = i64;
    type BoolElem = bool;

    fn name(_: &CaptureDevice) -> String {
        "capture".into()
    }

    fn init_client(device: &CaptureDevice) -> CaptureClient {
        CaptureClient { slot: POOL.slot(device.to_id().index_id), session: None }
    }

    fn get_tensor_handle(_: &TensorIr, _: &CaptureClient) -> Infallible {
        panic!("{}", CaptureError::ForeignTensor { place: "to_device".into() })
    }

    fn register_tensor(
        _: &CaptureClient,
        handle: Infallible,
        _: Shape,
        _: DType,
    ) -> RouterTensor<CaptureClient> {
        match handle {}
    }
}

/// No tensor crosses from one session to another.
pub struct NoBridge;

impl MultiBackendBridge for NoBridge {
    type TensorHandle = Infallible;
    type Device = CaptureDevice;

    fn change_backend_float(handle: Infallible, _: Shape, _: &CaptureDevice) -> Infallible {
        handle
    }

    fn change_backend_int(handle: Infallible, _: Shape, _: &CaptureDevice) -> Infallible {
        handle
    }

    fn change_backend_bool(handle: Infallible, _: Shape, _: &CaptureDevice) -> Infallible {
        handle
    }
}

/// Says that the operations from here on belong to part `scope` of the model on `device`.
pub(crate) fn enter(device: &CaptureDevice, scope: usize) {
    get_client::<CaptureChannel>(device).record(|recording| {
        recording.scope = Some(scope);
        Ok(())
    });
}

/// The type of activations in half width of what the session of `device` stands for.
pub(crate) fn half(device: &CaptureDevice) -> Option<DType> {
    get_client::<CaptureChannel>(device).record(|recording| Ok(recording.half))
}

/// Names the value of `x`.
pub(crate) fn label(x: &RouterTensor<CaptureClient>, name: &str) {
    let id = x.clone().into_ir().id;
    x.client.record(|recording| {
        recording.label(id, name);
        Ok(())
    });
}
