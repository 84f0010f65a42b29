//! A gate behind which new connections wait.
//!
//! A connection takes two round trips and some arithmetic to make, which can pass beside work of our own; but what is to be
//! said on it may depend on that work. So the request is begun, its connection is made, and stays behind the gate.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tower_layer::Layer;
use tower_service::Service;

/// The gate of one client. It is open in the beginning.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    is_open: watch::Sender<bool>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { is_open: watch::Sender::new(true) }
    }

    /// Connections that are made from now on wait.
    pub(super) fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// Those that wait are used, and new ones at once.
    pub(super) fn open(&self) {
        self.is_open.send_replace(true);
    }
}

impl<C> Layer<C> for Gate {
    type Service = Behind<C>;

    fn layer(&self, connector: C) -> Behind<C> {
        Behind { connector, is_open: self.is_open.subscribe() }
    }
}

/// What makes connections, behind a gate.
#[derive(Clone)]
pub(super) struct Behind<C> {
    connector: C,
    is_open: watch::Receiver<bool>,
}

impl<C, To> Service<To> for Behind<C>
where
    C: Service<To>,
    C::Future: Send + 'static,
    C::Response: Send,
    C::Error: Send,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: To) -> Self::Future {
        let (connecting, mut is_open) = (self.connector.call(to), self.is_open.clone());
        Box::pin(async move {
            let connection = connecting.await?;
            // Without its gate nobody is left who waits for the connection.
            let _ = is_open.wait_for(|is_open| *is_open).await;
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use crate::action::Queue;
    use crate::collector::http::{Http, Request};
    use crate::config::{Ack, Format, Proxy, QueueSettings, Secret, Tls};

    /// A collector of one test, and a client of it.
    async fn site() -> (TcpListener, Http) {
        let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = client(collector.local_addr().unwrap());
        (collector, http)
    }

    fn client(collector: SocketAddr) -> Http {
        let settings = QueueSettings {
            queue: Queue::Oc3,
            base_url: format!("http://{collector}"),
            node: "n".to_owned(),
            uuid: Secret::new("u"),
            tls: Tls { verify: true, ca_file: None, client_identity: None },
            proxy: Proxy::Never,
            connect_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
            ack: Ack::default(),
            exclusive: false,
            format: Format::default(),
        };
        Http::new(&settings).unwrap()
    }

    fn request(collector: SocketAddr, path: &str) -> Request {
        Request {
            url: format!("http://{collector}/{path}"),
            content_type: "text/plain",
            credentials: None,
            body: None,
            id: 0,
        }
    }

    /// Answers one request, and tells its path.
    async fn serve(connection: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.unwrap());
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    /// The same on a connection that is to come.
    async fn serve_next(collector: &TcpListener) -> String {
        let (mut connection, _) = collector.accept().await.unwrap();
        serve(&mut connection).await
    }

    #[tokio::test]
    async fn what_was_begun_is_connected_at_once_and_sent_when_it_is_to_be() {
        let (collector, http) = site().await;
        http.begin(request(collector.local_addr().unwrap(), "first"));
        let (mut connection, _) = collector.accept().await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), connection.read_u8()).await;
        assert!(early.is_err(), "{early:?}");
        let (answer, path) = tokio::join!(http.exchange_begun(), serve(&mut connection));
        assert_eq!((answer.unwrap().unwrap().body, path.as_str()), (b"ok".to_vec(), "/first"));
        assert!(http.exchange_begun().await.is_none(), "it is sent once");
        // And the connection is kept.
        let (answer, path) =
            tokio::join!(http.exchange(request(collector.local_addr().unwrap(), "second")), serve(&mut connection));
        assert_eq!((answer.unwrap().status, path.as_str()), (200, "/second"));
    }

    #[tokio::test]
    async fn what_was_begun_is_never_sent_when_something_else_is() {
        let (collector, http) = site().await;
        http.begin(request(collector.local_addr().unwrap(), "first"));
        let (mut unused, _) = collector.accept().await.unwrap();
        let (answer, path) =
            tokio::join!(http.exchange(request(collector.local_addr().unwrap(), "other")), serve_next(&collector));
        assert_eq!((answer.unwrap().status, path.as_str()), (200, "/other"));
        assert!(http.exchange_begun().await.is_none());
        drop(http);
        let mut rest = Vec::new();
        assert_eq!(unused.read_to_end(&mut rest).await.unwrap(), 0, "{rest:?}");
    }

    #[tokio::test]
    async fn a_connection_that_has_waited_long_is_not_used() {
        let (collector, http) = site().await;
        http.begin(request(collector.local_addr().unwrap(), "first"));
        let (mut old, _) = collector.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (answer, path) = tokio::join!(http.exchange_begun(), serve_next(&collector));
        assert_eq!((answer.unwrap().unwrap().status, path.as_str()), (200, "/first"));
        let mut rest = Vec::new();
        assert_eq!(old.read_to_end(&mut rest).await.unwrap(), 0, "{rest:?}");
    }

    #[tokio::test]
    async fn what_could_not_be_connected_is_tried_again_when_it_is_to_be_sent() {
        let collector = TcpSocket::new_v4().unwrap();
        collector.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = collector.local_addr().unwrap();
        let http = client(address);
        http.begin(request(address, "first"));
        tokio::time::sleep(Duration::from_millis(50)).await; // nobody listens: it is refused
        let collector = collector.listen(5).unwrap();
        let (answer, path) = tokio::join!(http.exchange_begun(), serve_next(&collector));
        assert_eq!((answer.unwrap().unwrap().status, path.as_str()), (200, "/first"));
    }
}
