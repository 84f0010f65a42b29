//! Bytes of a command's stream to text that fits the collector's column.

/// The bytes that the collector's column holds.
pub const LIMIT: usize = 65_535;
/// The bytes kept from the beginning when not all fit.
pub const HEAD: usize = 16 * 1024;

/// Cleans and clamps a stream in constant memory.
#[derive(Debug, Default)]
pub struct Clamp {}

impl Clamp {
    /// An empty stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, _bytes: &[u8]) {
        todo!()
    }

    /// The text, at most [`LIMIT`] bytes.
    #[must_use]
    pub fn finish(self, _last_line: Option<&str>) -> String {
        todo!()
    }
}

/// [`Clamp`] in one step.
#[must_use]
pub fn clamp(bytes: &[u8], last_line: Option<&str>) -> String {
    let mut clamp = Clamp::new();
    clamp.push(bytes);
    clamp.finish(last_line)
}
