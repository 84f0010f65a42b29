//! A queue at a collector: a dialect over the HTTP client.

use crate::action::{ActionId, Batch, Queue};
use crate::collector::dialect::{self, Dialect};
use crate::collector::http::{Http, Request};
use crate::collector::{CollectorError, Report};
use crate::config::{QueueSettings, Secret};

/// One queue, ready to be talked to.
pub struct Collector {
    queue: Queue,
    endpoint: String,
    dialect: Box<dyn Dialect>,
    /// For keeping it out of error texts.
    secret: Secret,
    http: Http,
}

impl Collector {
    /// Prepares to talk to a queue. Nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate or key file cannot be used.
    pub fn new(settings: &QueueSettings) -> Result<Self, CollectorError> {
        Ok(Self {
            queue: settings.queue,
            endpoint: settings.base_url.clone(),
            dialect: dialect::of(settings),
            secret: settings.uuid.clone(),
            http: Http::new(settings)?,
        })
    }

    /// Which queue it is.
    #[must_use]
    pub fn queue(&self) -> Queue {
        self.queue
    }

    /// The URL that results of its actions go to, and only there.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks for the queue, once.
    ///
    /// # Errors
    /// As [`CollectorError`] says; nothing was decided then.
    pub async fn fetch(&self) -> Result<Batch, CollectorError> {
        let answer = self.http.exchange(self.dialect.fetch()).await?;
        self.dialect.fetched(answer).map_err(|err| err.without(&self.secret))
    }

    /// Says that we hold these rows, once.
    ///
    /// # Errors
    /// As [`CollectorError`] says; the collector may or may not have heard it.
    pub async fn acknowledge(&self, ids: &[ActionId]) -> Result<(), CollectorError> {
        self.accept(self.dialect.acknowledge(ids)).await
    }

    /// Posts a result, once.
    ///
    /// # Errors
    /// As [`CollectorError`] says; the collector may or may not have it. Posting again is harmless.
    pub async fn report(&self, report: &Report) -> Result<(), CollectorError> {
        self.accept(self.dialect.report(report)).await
    }

    async fn accept(&self, request: Request) -> Result<(), CollectorError> {
        let answer = self.http.exchange(request).await?;
        self.dialect.accepted(answer).map_err(|err| err.without(&self.secret))
    }
}
