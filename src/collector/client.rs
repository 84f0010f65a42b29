//! A queue at a collector: a dialect over the HTTP client.

use crate::action::{ActionId, Batch, Queue};
use crate::collector::dialect::{self, Dialect};
use crate::collector::http::{Http, Request};
use crate::collector::{CollectorError, Report, rpc};
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

    /// The URL that names the collector: results of its actions go there and nowhere else. For the `rpc` queue it is that
    /// of its XML-RPC endpoint in either format: the queue behind both is the same.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Begins to connect. The queue is not asked for before [`Self::fetch`].
    pub fn connect(&self) {
        self.http.begin(self.dialect.fetch());
    }

    /// Asks for the queue, once. A collector that says that it cannot be asked so is asked what it knows, and then as it
    /// knows; from then on that is how it is asked.
    ///
    /// # Errors
    /// As [`CollectorError`] says; nothing was decided then.
    pub async fn fetch(&self) -> Result<Batch, CollectorError> {
        let unknown = match self.ask().await {
            Err(err @ CollectorError::UnknownMethod { .. }) => err,
            answer => return answer,
        };
        let methods = match self.dialect.ask_for_methods() {
            Some(request) => Some(self.http.exchange(request).await?),
            None => None,
        };
        if !self.dialect.fall_back(methods).map_err(|err| err.without(&self.secret))? {
            return Err(unknown);
        }
        tracing::debug!("{}: rows cannot be acknowledged there: {unknown}", self.queue);
        self.ask().await
    }

    async fn ask(&self) -> Result<Batch, CollectorError> {
        let answer = match self.http.exchange_begun().await {
            Some(answer) => answer?,
            None => self.http.exchange(self.dialect.fetch()).await?,
        };
        self.dialect.fetched(answer).map_err(|err| err.without(&self.secret))
    }

    /// Says that we hold these rows, once. Tells whether it did: where the collector counts what it sends as received,
    /// nothing is to be said.
    ///
    /// # Errors
    /// As [`CollectorError`] says; the collector may or may not have heard it.
    pub async fn acknowledge(&self, ids: &[ActionId]) -> Result<bool, CollectorError> {
        let Some(request) = self.dialect.acknowledge(ids) else { return Ok(false) };
        match self.accept(request).await {
            Err(CollectorError::UnknownMethod { .. }) => {
                self.dialect.never_acknowledge();
                Ok(false)
            }
            answer => answer.map(|()| true),
        }
    }

    /// Whether so many results, of so many bytes by [`Self::weight`] together, go in one call; a single one always does.
    #[must_use]
    pub fn takes(&self, results: usize, bytes: usize) -> bool {
        results <= 1 || self.dialect.takes(results, bytes)
    }

    /// What a result adds to the bytes of a call, at most.
    #[must_use]
    pub fn weight(&self, report: &Report) -> usize {
        rpc::weight(report)
    }

    /// Posts results, once, in one call; no more than it [takes](Self::takes).
    ///
    /// # Errors
    /// As [`CollectorError`] says; the collector may or may not have some of them. Posting again is harmless.
    pub async fn report(&self, reports: &[Report]) -> Result<(), CollectorError> {
        self.accept(self.dialect.report(reports)).await
    }

    async fn accept(&self, request: Request) -> Result<(), CollectorError> {
        let answer = self.http.exchange(request).await?;
        self.dialect.accepted(answer).map_err(|err| err.without(&self.secret))
    }
}
