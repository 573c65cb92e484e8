//! Mounting an overlay form.
