//! How others see what is in force, and ask the task that owns the datapath. Refuses to wait for it without an end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datapath::{FailMode, FunctionError, FunctionHook, LoadedFunction};
use membership::id::Label;
use overlay::fact::Binding;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::force::Force;

/// Longest time that an answer of the task is waited for: it may be in the midst of an apply.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What others ask the task.
pub(super) enum Question {
    Drops(oneshot::Sender<Result<Vec<datapath::DropCount>, String>>),
    Audits(oneshot::Sender<Result<Vec<datapath::AuditCount>, String>>),
    Status(oneshot::Sender<datapath::Status>),
    Check(Label, Label, Binding, oneshot::Sender<Result<Option<String>, String>>),
    Functions(oneshot::Sender<Result<Vec<LoadedFunction>, FunctionError>>),
    LoadFunction(FunctionFile, oneshot::Sender<Result<LoadedFunction, FunctionError>>),
    RemoveFunction(Label, Label, oneshot::Sender<Result<(), FunctionError>>),
}

/// A function to be loaded.
#[derive(Debug)]
pub(in super::super) struct FunctionFile {
    pub(in super::super) domain: Label,
    pub(in super::super) name: Label,
    pub(in super::super) hook: FunctionHook,
    pub(in super::super) fail: FailMode,
    pub(in super::super) path: PathBuf,
}

/// The other side of the task.
#[derive(Debug, Clone)]
pub(in super::super) struct Handle {
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) force: watch::Receiver<Force>,
    pub(super) begun: Arc<AtomicU64>,
}

/// Why the task did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum AskError {
    /// It did not come to it in time.
    #[error("the datapath is busy")]
    Busy,
    /// The datapath could not tell.
    #[error("the datapath cannot tell: {0}")]
    Datapath(String),
}

impl Handle {
    /// What is in force.
    pub(in super::super) fn force(&self) -> watch::Receiver<Force> {
        self.force.clone()
    }

    /// How many passes have begun.
    pub(in super::super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// The drop counters.
    pub(in super::super) async fn drops(&self) -> Result<Vec<datapath::DropCount>, AskError> {
        self.ask(Question::Drops).await?.map_err(AskError::Datapath)
    }

    /// The counters of audit rules.
    pub(in super::super) async fn audits(&self) -> Result<Vec<datapath::AuditCount>, AskError> {
        self.ask(Question::Audits).await?.map_err(AskError::Datapath)
    }

    /// What runs in the kernel. Answered by a task that is alive.
    pub(in super::super) async fn status(&self) -> Result<datapath::Status, AskError> {
        self.ask(Question::Status).await
    }

    /// Why an endpoint's workload could not be taken up at this moment, if it could not.
    pub(in super::super) async fn check(
        &self,
        domain: &Label,
        endpoint: &Label,
        binding: &Binding,
    ) -> Result<Option<String>, AskError> {
        let (domain, endpoint, binding) = (domain.clone(), endpoint.clone(), binding.clone());
        self.ask(|answer| Question::Check(domain, endpoint, binding, answer))
            .await?
            .map_err(AskError::Datapath)
    }

    /// The functions on this host.
    pub(in super::super) async fn functions(&self) -> Result<Result<Vec<LoadedFunction>, FunctionError>, AskError> {
        self.ask(Question::Functions).await
    }

    /// Loads one.
    pub(in super::super) async fn load_function(
        &self,
        file: FunctionFile,
    ) -> Result<Result<LoadedFunction, FunctionError>, AskError> {
        self.ask(|answer| Question::LoadFunction(file, answer)).await
    }

    /// Removes one.
    pub(in super::super) async fn remove_function(
        &self,
        domain: Label,
        name: Label,
    ) -> Result<Result<(), FunctionError>, AskError> {
        self.ask(|answer| Question::RemoveFunction(domain, name, answer)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, AskError> {
        let (sender, answer) = oneshot::channel();
        self.questions.try_send(question(sender)).map_err(|_| AskError::Busy)?;
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(AskError::Busy),
        }
    }
}
