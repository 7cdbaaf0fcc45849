//! Calibration on a real directory and on the failing twin.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use pinnace_bench::device::twin::{Fault, Gate, Twins};
use pinnace_bench::{CalibrationError, ErrorKind, Stop, calibrate, calibrate_on, judge, rollovers};
use pinnace_proto::event::StopReason;

use crate::bed::{Bed, HANGS, KIB, MIB};

#[test]
fn every_worker_is_measured_and_nothing_stays() {
    let bed = Bed::new(
        &[(64 * KIB, 4 * MIB), (MIB, 8 * MIB), (100_000, 100_000)],
        10_000,
    );
    let calibration = calibrate(&bed.plan(), &Stop::new()).unwrap();
    assert_eq!(calibration.len(), 3);
    for (worker, measured) in bed.job.workers.iter().zip(&calibration) {
        assert!(measured.bytes >= worker.chunk_bytes && measured.bytes <= worker.file_bytes);
        assert!(measured.elapsed_us > 0 && measured.bytes_per_second > 0.0);
        let expected = rollovers(measured.bytes_per_second, 10_000_000, worker.file_bytes);
        assert!((measured.rollovers - expected).abs() < 1e-9);
    }
    assert!(bed.files().is_empty());
    judge(&bed.job, &calibration).unwrap();
}

#[test]
fn a_rate_limit_caps_the_promise() {
    let mut bed = Bed::new(&[(64 * KIB, 4 * MIB)], 4_000);
    bed.job.rate_bytes_per_second = Some(MIB);
    let calibration = calibrate(&bed.plan(), &Stop::new()).unwrap();
    assert_eq!(calibration[0].bytes_per_second, MIB as f64);
    assert_eq!(calibration[0].rollovers, 1.0);
    let refused = judge(&bed.job, &calibration).unwrap_err();
    // 4 s at 1 MiB/s, for two files and a fifth more; in whole chunks, in whole seconds.
    assert_eq!(refused.largest_file_bytes, Some(26 * 64 * KIB));
    assert_eq!(refused.shortest_run_time_us, 10_000_000);
    bed.job.force = true;
    judge(&bed.job, &calibration).unwrap();
}

#[test]
fn trouble_is_told_and_cleaned_up() {
    for (fault, kind, words) in [
        (Fault::WriteFails(1), ErrorKind::Failed, "could not write"),
        (Fault::SyncFails(1), ErrorKind::Failed, "could not sync"),
        (Fault::FullAfter(0), ErrorKind::Unsafe, "could not write"),
    ] {
        let bed = Bed::new(&[(64 * KIB, MIB), (64 * KIB, MIB)], 1_000);
        let devices = Arc::new(Twins {
            faults: vec![(1, fault)],
        });
        let error = calibrate_on(&bed.plan(), devices, &Stop::new()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().starts_with("worker 1"), "{error}");
    }
}

#[test]
fn a_stop_ends_it_even_when_a_write_hangs() {
    let bed = Bed::new(&[(64 * KIB, MIB)], 1_000);
    let gate = Gate::default();
    let devices = Arc::new(Twins {
        faults: vec![(0, Fault::WriteHangs(1, gate.clone()))],
    });
    let (stop, plan) = (Stop::new(), bed.plan());
    let (end, ended) = channel();
    let thread = thread::spawn({
        let stop = stop.clone();
        move || end.send(calibrate_on(&plan, devices, &stop)).unwrap()
    });
    stop.request(StopReason::Interrupted);
    let result = ended.recv_timeout(HANGS).expect("the calibration hangs");
    assert!(
        matches!(result, Err(CalibrationError::Stopped)),
        "{result:?}"
    );
    thread.join().unwrap();
    gate.open();
}
