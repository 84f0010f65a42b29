//! What a command prints, on its way to the report: in pieces as pipes hold them, cleaned and clamped.

use opensvc_actions::action::output::Clamp;

use super::Work;

/// What a pipe holds.
const PIECE: usize = 64 * 1024;

/// Lines of streams.
const PLAIN: &str = "2026-11-21 09:00:00,123 - fs#1 - INFO - mount /dev/vg0/data on /srv/data\n";
const COLOURED: &str = "\x1b[1;32m  up\x1b[0m    fs#1       \x1b[34mext4\x1b[0m /dev/vg0/data@/srv/data\n";
const ACCENTED: &str = "état : prêt, durée 3 µs, coût 5 € – größer als früher\n";

/// A stream in pieces, clamped.
fn clamp(stream: &[u8]) -> String {
    let mut clamp = Clamp::new();
    stream.chunks(PIECE).for_each(|piece| clamp.push(piece));
    clamp.finish(None)
}

pub(crate) fn works() -> Vec<Work> {
    let binary: Vec<u8> = (0..1_u32 << 20).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let text = |line: &str, bytes: usize| line.repeat(bytes / line.len() + 1).into_bytes();
    [
        ("short", b"done\n".to_vec()),
        ("plain, fits", text(PLAIN, 60_000)),
        ("plain, 1 MiB", text(PLAIN, 1 << 20)),
        ("coloured, 1 MiB", text(COLOURED, 1 << 20)),
        ("accented, 1 MiB", text(ACCENTED, 1 << 20)),
        ("binary, 1 MiB", binary),
    ]
    .into_iter()
    .map(|(name, stream)| Work::new(name, (stream.len(), "byte"), stream.len(), move || clamp(&stream)))
    .collect()
}
