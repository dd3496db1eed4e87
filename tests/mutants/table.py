"""Every mutant."""

from typing import Final

from tests.mutants import (
    of_answers,
    of_children,
    of_containers,
    of_contracts,
    of_decisions,
    of_executor,
    of_flow,
    of_following,
    of_gates,
    of_gathering,
    of_ingress,
    of_logs,
    of_orchestrator,
    of_projections,
    of_schedules,
    of_segments,
    of_signals,
    of_stores,
    of_trials,
    of_undos,
    of_workers,
    pairs,
)
from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *of_orchestrator.MUTANTS,
    *of_decisions.MUTANTS,
    *of_containers.MUTANTS,
    *of_children.MUTANTS,
    *of_signals.MUTANTS,
    *of_answers.MUTANTS,
    *of_schedules.MUTANTS,
    *of_following.MUTANTS,
    *of_flow.MUTANTS,
    *of_gates.MUTANTS,
    *of_gathering.MUTANTS,
    *of_segments.MUTANTS,
    *of_executor.MUTANTS,
    *of_ingress.MUTANTS,
    *of_projections.MUTANTS,
    *of_contracts.MUTANTS,
    *of_stores.MUTANTS,
    *of_trials.MUTANTS,
    *of_undos.MUTANTS,
    *of_logs.MUTANTS,
    *of_workers.MUTANTS,
    *pairs.MUTANTS,
)
