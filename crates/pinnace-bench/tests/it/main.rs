//! Whole runs and calibrations on a real directory, and on the failing twin of the device. Nothing
//! here sleeps: tests wait for reports, and time limits are those of channels.

mod bed;
mod calibration;
mod faults;
mod runs;
