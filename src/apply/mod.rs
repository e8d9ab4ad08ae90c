//! The only writer: carries out the effects of a plan.
