//! How fast a session is judged: `cargo bench -p oftp2-codec`.
//!
//! Octets per second of data buffers through stream header, subrecords and monitor, beside a copy of the same octets in
//! the same run; and commands per second of whole sessions. "warm" judges one buffer again and again, as a relay does
//! that has just received it; "cold" goes through more buffers than any cache holds.

use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use oftp2_codec::{
    command::{
        Cdt, Command, Efid, Efpa, FileFormat, Level, Protection, ReleaseLevel, Sfid, Sfpa, Ssid, Ssrm, Transfers,
    },
    field::{BufferSize, Credit, Decimal, FileDate, FileTime, FreeText, IdentificationCode, Password, Text},
    monitor::{Monitor, Peer, Phase, Settings},
    stb::{Framer, HEADER_LENGTH, StreamHeader},
    subrecord::{Packed, Packing},
};

const KIB: usize = 1024;

/// Octets of a data buffer: 97 KiB is near the largest there is.
const SIZES: [usize; 4] = [KIB, 4 * KIB, 64 * KIB, 97 * KIB];

/// Above the caches of the machines this runs on.
const COLD: usize = 256 * KIB * KIB;

/// Tells in the report when judging allocates: no data buffer may.
#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

fn framed(command: &Command<'_>) -> Vec<u8> {
    let mut buffer = Vec::new();
    command.write(Level::L5, &mut buffer).expect("a command of level 5");
    let header = StreamHeader::before(buffer.len()).expect("a legal length");
    [&header.octets(), buffer.as_slice()].concat()
}

fn ssid(code: &str) -> Command<'static> {
    Command::Ssid(Ssid {
        level: ReleaseLevel::from(Level::L5),
        code: IdentificationCode::new(code).expect("a code"),
        password: Password::BLANK,
        buffer_size: BufferSize::new(99_999).expect("a size"),
        transfers: Transfers::Both,
        compression: true,
        restart: true,
        special_logic: false,
        credit: Credit::new(999).expect("a credit"),
        authentication: false,
        user: Text::BLANK,
    })
}

fn sfid() -> Command<'static> {
    Command::Sfid(Box::new(Sfid {
        dataset: Text::new("BENCHMARK").expect("a name"),
        date: FileDate::new(2026, 11, 20).expect("a date"),
        time: FileTime::new(12, 0, 0, 1).expect("a time"),
        user: Text::BLANK,
        destination: IdentificationCode::new("O0013000000RECEIVER").expect("a code"),
        originator: IdentificationCode::new("O0013000000SENDER").expect("a code"),
        format: FileFormat::Unstructured,
        record_length: Decimal::ZERO,
        size: Decimal::ZERO,
        original_size: Decimal::ZERO,
        restart: Decimal::ZERO,
        protection: Protection::NONE,
        description: FreeText::default(),
    }))
}

/// A session in its data phase.
struct Sending {
    monitor: Monitor,
    credit: Vec<u8>,
}

impl Sending {
    fn new() -> Self {
        let mut sending = Self { monitor: Monitor::new(Settings::default()), credit: framed(&Command::Cdt(Cdt)) };
        sending.judge(Peer::Responder, &framed(&Command::Ssrm(Ssrm)));
        sending.judge(Peer::Initiator, &framed(&ssid("O0013000000SENDER")));
        sending.judge(Peer::Responder, &framed(&ssid("O0013000000RECEIVER")));
        sending.judge(Peer::Initiator, &framed(&sfid()));
        sending.judge(Peer::Responder, &framed(&Command::Sfpa(Sfpa { answer_count: Decimal::ZERO })));
        sending
    }

    fn judge(&mut self, from: Peer, stream: &[u8]) {
        let (header, buffer) = stream.split_first_chunk::<HEADER_LENGTH>().expect("a header");
        let header = self.monitor.stream_header(from, *header).expect("a legal header");
        assert_eq!(header.exchange_buffer_length(), buffer.len());
        black_box(self.monitor.judge(from, buffer).expect("a legal buffer"));
    }

    fn data(&mut self, stream: &[u8]) {
        if self.monitor.phase() == Phase::OpoWfc {
            let credit = std::mem::take(&mut self.credit);
            self.judge(Peer::Responder, &credit);
            self.credit = credit;
        }
        self.judge(Peer::Initiator, stream);
    }
}

/// A data buffer of this many octets. Compressed: runs of blanks between short words, as in a text file of fixed columns.
fn data(size: usize, compression: bool) -> Vec<u8> {
    let file: Vec<u8> = match compression {
        false => (0..size).map(|n| n as u8).collect(),
        true => {
            b"INVOICE                 4711          12,50 EUR      ".iter().copied().cycle().take(size * 8).collect()
        }
    };
    let mut buffer = vec![b'D'];
    let _ = Packing { buffer_size: size, compression }.pack(&mut buffer, &mut file.as_slice(), false);
    let header = StreamHeader::before(buffer.len()).expect("a legal length");
    [&header.octets(), buffer.as_slice()].concat()
}

fn judge_warm(bencher: Bencher<'_, '_>, size: usize, compression: bool) {
    let stream = data(size, compression);
    let mut sending = Sending::new();
    bencher.counter(BytesCount::new(stream.len())).bench_local(|| sending.data(black_box(&stream)));
}

#[divan::bench(args = SIZES)]
fn warm_judge(bencher: Bencher<'_, '_>, size: usize) {
    judge_warm(bencher, size, false);
}

#[divan::bench(args = SIZES)]
fn warm_judge_compressed(bencher: Bencher<'_, '_>, size: usize) {
    judge_warm(bencher, size, true);
}

/// Records of 80 octets: two subrecords each, the second with its End of Record.
#[divan::bench(args = SIZES)]
fn warm_judge_records(bencher: Bencher<'_, '_>, size: usize) {
    let packing = Packing { buffer_size: size, compression: false };
    let mut buffer = vec![b'D'];
    while packing.pack(&mut buffer, &mut [b'A'; 80].as_slice(), true) == Packed::Whole {}
    let stream = [&StreamHeader::before(buffer.len()).expect("a legal length").octets(), buffer.as_slice()].concat();
    let mut sending = Sending::new();
    bencher.counter(BytesCount::new(stream.len())).bench_local(|| sending.data(black_box(&stream)));
}

/// Framing with a copy, as a station without a buffer of its own does it.
#[divan::bench(args = SIZES)]
fn warm_frame_and_judge(bencher: Bencher<'_, '_>, size: usize) {
    let stream = data(size, false);
    let mut sending = Sending::new();
    let mut framer = Framer::new();
    bencher.counter(BytesCount::new(stream.len())).bench_local(|| {
        if sending.monitor.phase() == Phase::OpoWfc {
            sending.monitor.judge(Peer::Responder, b"C  ").expect("a credit");
        }
        let buffer = framer.push(&mut black_box(stream.as_slice())).expect("a legal header").expect("a whole buffer");
        black_box(sending.monitor.judge(Peer::Initiator, buffer).expect("a legal buffer"));
    });
}

#[divan::bench(args = SIZES)]
fn warm_copy(bencher: Bencher<'_, '_>, size: usize) {
    let stream = data(size, false);
    let mut to = vec![0; stream.len()];
    bencher.counter(BytesCount::new(stream.len())).bench_local(|| {
        black_box(to.as_mut_slice()).copy_from_slice(black_box(&stream));
    });
}

#[divan::bench(args = SIZES, sample_count = 10, sample_size = 1)]
fn cold_judge(bencher: Bencher<'_, '_>, size: usize) {
    let stream = data(size, false);
    let streams: Vec<Vec<u8>> = (0..COLD / stream.len()).map(|_| stream.clone()).collect();
    let mut sending = Sending::new();
    bencher
        .counter(BytesCount::new(stream.len() * streams.len()))
        .bench_local(|| streams.iter().for_each(|stream| sending.data(black_box(stream))));
}

#[divan::bench(args = SIZES, sample_count = 10, sample_size = 1)]
fn cold_copy(bencher: Bencher<'_, '_>, size: usize) {
    let stream = data(size, false);
    let streams: Vec<Vec<u8>> = (0..COLD / stream.len()).map(|_| stream.clone()).collect();
    let mut to = vec![0; stream.len()];
    bencher.counter(BytesCount::new(stream.len() * streams.len())).bench_local(|| {
        for stream in &streams {
            black_box(to.as_mut_slice()).copy_from_slice(black_box(stream));
        }
    });
}

/// A file of one small buffer: SFID, SFPA, DATA, EFID, EFPA.
#[divan::bench]
fn commands_of_a_small_file(bencher: Bencher<'_, '_>) {
    let size = 100u64;
    let file = [
        (Peer::Initiator, framed(&sfid())),
        (Peer::Responder, framed(&Command::Sfpa(Sfpa { answer_count: Decimal::ZERO }))),
        (Peer::Initiator, data(102 + 1, false)),
        (
            Peer::Initiator,
            framed(&Command::Efid(Efid { records: Decimal::ZERO, units: Decimal::new(size).expect("a number") })),
        ),
        (Peer::Responder, framed(&Command::Efpa(Efpa { change_direction: false }))),
    ];
    let mut sending = Sending::new();
    // The file that is open since the beginning.
    let (_, to_its_end) = file.split_at(3);
    to_its_end.iter().for_each(|(from, stream)| sending.judge(*from, stream));
    bencher.counter(ItemsCount::new(file.len())).bench_local(|| {
        for (from, stream) in black_box(&file) {
            sending.judge(*from, stream);
        }
    });
}
