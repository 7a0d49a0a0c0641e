"""The client's side of the base's growth."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas.growth import (
    Contribution,
    ContributionDecision,
    GrowIn,
    GrowthNote,
    GrowthOutlook,
    GrowthPolicy,
    GrowthPolicySet,
    GrowthRun,
)


class GrowthCalls(Calls):
    """These calls, as part of `HubClient`."""

    def contributions(self, dataset: str) -> list[Contribution]:
        """The offers of `team/name`, newest first."""
        return self._call("GET", f"/datasets/{quote(dataset)}/contributions", list[Contribution])

    def all_contributions(self) -> list[Contribution]:
        """Offers of all datasets; for the operator."""
        return self._call("GET", "/growth/contributions", list[Contribution])

    def decide_contribution(self, contribution: str, asked: ContributionDecision) -> Contribution:
        """Accept or refuse an offer whose value the test does not tell."""
        path = f"/growth/contributions/{quote(contribution, safe='')}/decision"
        return self._call("POST", path, Contribution, asked)

    def growth_outlook(self) -> GrowthOutlook:
        """What a growth would learn from now, and who would judge."""
        return self._call("GET", "/growth", GrowthOutlook)

    def growth_policy(self) -> GrowthPolicy:
        """The policy in force."""
        return self._call("GET", "/growth/policy", GrowthPolicy)

    def set_growth_policy(self, asked: GrowthPolicySet) -> GrowthPolicy:
        """Put another version of the policy in force."""
        return self._call("PUT", "/growth/policy", GrowthPolicy, asked)

    def growths(self) -> list[GrowthRun]:
        """Growths, newest first."""
        return self._call("GET", "/growth/runs", list[GrowthRun])

    def growth(self, run: str) -> GrowthRun:
        """One growth with its cells."""
        return self._call("GET", f"/growth/runs/{quote(run, safe='')}", GrowthRun)

    def grow(self, note: str = "") -> GrowthRun:
        """Start a growth by hand."""
        return self._call("POST", "/growth/runs", GrowthRun, GrowIn(note=note))

    def stop_growth(self, run: str, note: str = "") -> GrowthRun:
        """End a growth; cells that moved stay."""
        return self._call("POST", f"/growth/runs/{quote(run, safe='')}/stop", GrowthRun, GrowthNote(note=note))
