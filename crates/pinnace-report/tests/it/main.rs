//! Reports over runs made by hand, from the record to each rendering.

mod built;
mod caveats;
mod figures;
mod renderings;
mod robust;
