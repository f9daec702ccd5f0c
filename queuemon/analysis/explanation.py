"""The answer of the contrast: findings with their figures and filters, and the sentence that sums them up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from queuemon.filters import JobFilter
from queuemon.filters.printer import printed
from queuemon.filters.tree import both, fields

if TYPE_CHECKING:
    import pandas as pd

    from queuemon.analysis.separation import Risk


@dataclass(frozen=True, kw_only=True)
class Companion:
    """Another condition that selects nearly the same jobs: what goes along with the finding, cause or not."""

    filter: str
    #: Phi coefficient, up to 1 for exactly the same jobs.
    correlation: float


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A condition under which jobs fail more often."""

    #: In the filter language: selects exactly the jobs described.
    filter: str
    #: Words for it beyond the filter, such as the name of a deploy; else empty.
    label: str
    #: Failing jobs, and jobs altogether, that it selects among those that were looked at.
    failing: int
    jobs: int
    #: Share of the failing jobs that it selects.
    support: float
    #: Failure rates inside and outside, and their ratio.
    risk: Risk
    #: Natural logarithm of the exact p among the jobs that no earlier finding selects, corrected for all tests.
    log_p: float
    #: Whether the filter asks what was counted. Not of worker, attempts and clocks: those are counted as they were at
    #: the first failed attempt, and the filter asks the last one; the same for jobs that have not run again since.
    exact: bool
    companions: tuple[Companion, ...]

    @property
    def p_value(self) -> float:
        """The corrected p; 0 where it is too small for a double."""
        return math.exp(self.log_p)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the failing jobs share that the succeeding ones do not."""

    #: Jobs that were looked at.
    failing: int
    succeeding: int
    #: Attributes of the jobs, and conditions on one or two of them that were tested.
    attributes: int
    tested: int
    #: The strongest first; each is significant among the jobs that those before it do not select.
    findings: tuple[Finding, ...]
    #: Share of the failing jobs that some finding selects.
    covered: float
    #: Which failing jobs were asked about, and what they share with the succeeding ones by choice.
    where: str = ""
    baseline: str = ""
    since: datetime | None = None
    until: datetime | None = None
    #: Failed attempts of the window that carry no signature yet, where one was asked for and none was found.
    unsigned: int = 0
    #: What was left out, sampled or capped, in the operator's words.
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        if not self.failing or not self.succeeding:
            missing = "failing" if not self.failing else "succeeding"
            if self.unsigned:
                return (
                    f"There is nothing to compare yet: {self.unsigned:,} failed attempts of this time carry no "
                    "signature, which a relay writes, and no other one has the signature that was asked for."
                )
            return f"There is nothing to compare: no {missing} job was found."
        if not self.findings:
            return (
                f"Nothing separates the {self.failing:,} failing jobs from the {self.succeeding:,} succeeding ones: "
                f"{self.tested:,} conditions on {self.attributes} attributes were tested."
            )
        share = f"{self.covered * 100:.0f} %"
        what = "One condition explains" if len(self.findings) == 1 else f"{len(self.findings)} conditions explain"
        return f"{what} {share} of the {self.failing:,} failing jobs."

    def selection(self, finding: Finding) -> str:
        """The filter of the jobs that a finding is about: of those that were asked about, the ones under its condition;
        those that stand failed, where nothing was asked of the status. Raises FilterError for a filter of no sense."""
        asked = JobFilter.parse(self.where).root
        failed = [] if "status" in fields(asked) else [JobFilter.of(status="failed").root]
        return printed(both(*failed, asked, JobFilter.parse(finding.filter).root))

    def to_frame(self) -> pd.DataFrame:
        """One row per finding: filter, failing, jobs, support, rates, risk ratio with interval, p."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "filter": f.filter,
                    "label": f.label,
                    "failing": f.failing,
                    "jobs": f.jobs,
                    "support": f.support,
                    "rate_inside": f.risk.inside,
                    "rate_outside": f.risk.outside,
                    "risk_ratio": f.risk.ratio,
                    "low": f.risk.low,
                    "high": f.risk.high,
                    "p_value": f.p_value,
                }
                for f in self.findings
            ]
        )
