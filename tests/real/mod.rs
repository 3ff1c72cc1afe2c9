//! Tests against real parts: OpenLDAP, and the program itself as a process.

mod parts_hold;
