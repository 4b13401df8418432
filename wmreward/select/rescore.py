"""Finished candidates, compared anew: by other weights, other rewards or ranks, from their records alone.

No video is read and nothing is loaded, so it works where videos were removed (``generate --keep best``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wmreward.commands.flags import Values
from wmreward.errors import UsageError, WMRewardError
from wmreward.records.record_file import RecordFile
from wmreward.records.scored import Record
from wmreward.rewards.compare import Comparison, Judged
from wmreward.rewards.known import comparing
from wmreward.rewards.names import ASKS, parse_weights
from wmreward.search.best_of_n import Choice
from wmreward.search.candidates import (
    Candidate,
    curves_of,
    embedding_files,
    embeddings_folder,
)
from wmreward.search.ways import settings_hash
from wmreward.select.groups import group_of
from wmreward.select.show import Showing
from wmweights import WeightsError, read_state


def rescore(values: Values, file: Path) -> int:
    """Compare what ``--rescore`` names, a file; returns the exit code.

    Raises:
        UsageError: flags of judging, or records that do not say all that is asked for.
        WMRewardError: embeddings that are gone.
    """
    weights = parse_weights(values["reward"] or ["surprise"])
    comparison = Comparison(weights, values["combine"], compare=comparing)
    latest = _latest(RecordFile(file).read())
    if not latest:
        raise UsageError(f"--rescore {file}: there is no record in it")
    said = {name: _said(name, records, weights, file) for name, records in latest.items()}
    _check_alike(said, file)
    showing = Showing.from_flags(values, lambda name: _beside(file, name))
    groups = _groups(latest, values["group_by"])
    for number, (group, names) in enumerate(groups.items(), 1):
        judged = [_judged(said[name], file) for name in names]
        table = {name: scores.tolist() for name, scores in comparison.table(judged).items()}
        candidates = [
            Candidate(name, {**latest[name][-1], "curves": judged_one.curves})
            for name, judged_one in zip(names, judged, strict=True)
        ]
        choice = Choice(candidates, comparison.totals(judged).tolist(), table)
        showing.group(number, group, choice)
    showing.end()
    return 0


def _latest(records: Sequence[Record]) -> dict[str, list[Record]]:
    """By candidate, all records of the content that it was last seen with, the latest last."""
    content = {record["path"]: record["video_sha256"] for record in records}
    found: dict[str, list[Record]] = {name: [] for name in content}
    for record in records:
        if record["video_sha256"] == content[record["path"]]:
            found[record["path"]].append(record)
    return found


def _said(
    name: str, records: Sequence[Record], rewards: Mapping[str, float], file: Path
) -> dict[str, Record]:
    """The latest record of a candidate that holds what each reward says."""
    found = {}
    for reward in rewards:
        holding = [r for r in records if reward in r["scores"] or reward in embedding_files(r)]
        if not holding:
            known = {key for r in records for key in (*r["scores"], *embedding_files(r))}
            raise UsageError(
                f"--rescore {file}: {name} was not judged by {reward!r}, only by "
                f"{', '.join(sorted(known))}; without --rescore, the same command over the videos judges "
                "what is missing"
            )
        if len({_way(record, reward) for record in holding}) > 1:
            raise UsageError(_several_ways(file, reward))
        found[reward] = holding[-1]
    return found


def _check_alike(said: Mapping[str, Mapping[str, Record]], file: Path) -> None:
    """All candidates were judged in one way; raises ``UsageError``."""
    for reward in next(iter(said.values())):
        if len({_way(records[reward], reward) for records in said.values()}) > 1:
            raise UsageError(_several_ways(file, reward))


def _several_ways(file: Path, reward: str) -> str:
    return (
        f"--rescore {file}: {reward!r} judged in several ways there (other models or settings); without "
        "--rescore, the same command over the videos says which, and judges nothing again"
    )


def _way(record: Record, reward: str) -> str:
    """How a reward judged; of those that ask about prompts, apart from the prompt."""
    if reward in ASKS:
        settings = record["settings"].get("judged_by", record["settings"])
        asked = ("vlm", "vlm_weights", "vlm_fps", "question")
        return settings_hash({key: settings.get(key) for key in asked})
    return str(record.get("ways", {}).get(reward, record["settings_id"]))


def _judged(said: Mapping[str, Record], file: Path) -> Judged:
    judged = Judged({}, {}, {})
    for reward, record in said.items():
        if reward in record["scores"]:
            judged.scores[reward] = record["scores"][reward]
            own = (item for item in record["parts"].items() if item[0].startswith(f"{reward}."))
            judged.parts.update(own)
            judged.curves.update({k: v for k, v in curves_of(record).items() if k == reward})
            continue
        embedding = embeddings_folder(file) / embedding_files(record)[reward]
        try:
            judged.embeddings[reward] = read_state(embedding)[reward]
        except WeightsError as error:
            raise WMRewardError(f"{record['path']}: its embedding is gone: {error}") from error
    return judged


def _groups(latest: Mapping[str, Sequence[Record]], group_by: str | None) -> dict[str, list[str]]:
    """Candidates of one set: as they were grouped, or made by the same settings; or by their names."""
    groups: dict[str, list[str]] = {}
    for name, records in latest.items():
        groups.setdefault(_group(name, records[-1], group_by), []).append(name)
    alone = len(groups) == 1 and group_by is None and "group" not in next(iter(latest.values()))[-1]
    return {"": next(iter(groups.values()))} if alone else groups


def _group(name: str, record: Record, group_by: str | None) -> str:
    if group_by is None:
        made = {key: v for key, v in record["settings"].items() if key != "judged_by"}
        return str(record.get("group", f"made as {settings_hash(made)[:8]}"))
    return group_of(Path(name), record.get("group"), group_by)


def _beside(file: Path, name: str) -> Path:
    """A video: where its record says, or beside the records as ``generate`` has it."""
    beside = file.parent / name
    return beside if beside.exists() else Path(name)
