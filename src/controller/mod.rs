//! The driver: watches, queue, observe → decide → apply, leadership.
