//! The custom resources of `flagger.app/v1beta1`.
