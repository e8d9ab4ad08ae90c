//! Faults planted on purpose: each breaks one rule, so that a test can see whether the suite that holds
//! the server to a real one would notice.

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// A write that changes nothing counts a revision.
    IdleWriteCounts,
    /// PUT and PATCH ignore the version they were made for.
    VersionIgnored,
    /// An existing name is refused as `Conflict`.
    ExistsAsConflict,
    /// The main path writes status, and `/status` writes the spec.
    StatusNotApart,
    /// Every write counts a generation.
    GenerationAlways,
    /// No write counts a generation.
    GenerationNever,
    /// DELETE does not wait for finalizers.
    FinalizersIgnored,
    /// The object stays when its last finalizer goes.
    LastFinalizerKeeps,
    /// A recreated object has the UID of the first one.
    UidReused,
    /// DELETE ignores preconditions.
    PreconditionsIgnored,
    /// A dry run writes.
    DryRunWrites,
    /// Schemas are not applied: nothing is pruned, defaulted or decoded.
    NoShaping,
    /// Nothing is checked.
    NoChecks,
    /// Server-side apply takes fields from anybody.
    ApplyForces,
    /// PUT and PATCH take no fields from appliers.
    UpdatesOwnNothing,
    /// Lists ignore selectors.
    ListIgnoresSelector,
    /// Watches ignore selectors.
    WatchIgnoresSelector,
    /// Watches miss deletions.
    WatchMissesDeletes,
    /// Watches start now, whatever revision was asked for.
    WatchForgetsRevision,
    /// A next page shows what is there now.
    PagesDrift,
    /// A namespace that goes away takes new objects.
    TerminatingAccepts,
    /// A missing namespace takes objects.
    MissingNamespaceAccepts,
    /// Propagation policies are ignored.
    PropagationIgnored,
    /// Services get no address.
    NoAllocation,
    /// Users may do what no role gives them.
    RightsIgnored,
    /// Stored objects are read by the definition under which they were written.
    DefinitionUnread,
}

impl Defect {
    /// Every defect.
    pub const ALL: [Self; 26] = [
        Self::IdleWriteCounts,
        Self::VersionIgnored,
        Self::ExistsAsConflict,
        Self::StatusNotApart,
        Self::GenerationAlways,
        Self::GenerationNever,
        Self::FinalizersIgnored,
        Self::LastFinalizerKeeps,
        Self::UidReused,
        Self::PreconditionsIgnored,
        Self::DryRunWrites,
        Self::NoShaping,
        Self::NoChecks,
        Self::ApplyForces,
        Self::UpdatesOwnNothing,
        Self::ListIgnoresSelector,
        Self::WatchIgnoresSelector,
        Self::WatchMissesDeletes,
        Self::WatchForgetsRevision,
        Self::PagesDrift,
        Self::TerminatingAccepts,
        Self::MissingNamespaceAccepts,
        Self::PropagationIgnored,
        Self::NoAllocation,
        Self::RightsIgnored,
        Self::DefinitionUnread,
    ];
}
