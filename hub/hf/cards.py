"""What is wrong with a card, for those who are about to commit one."""

from __future__ import annotations

from hub.hf.licenses import LICENSES
from registry.repos.cards import CardError, read_head, strings


def problems_of(readme: str, repo_type: str) -> tuple[list[str], list[str]]:
    """What is wrong with a README's head: errors, which stop a commit, and warnings."""
    try:
        data = read_head(readme)
    except CardError as error:
        return [str(error)], []
    if not data:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = []
    for key in ("tags", "language", "datasets", "license", "metrics"):
        value = data.get(key)
        if not (value is None or isinstance(value, str) or _is_strings(value)):
            errors.append(f'"{key}" must be a string or a list of strings')
    if "tags" in data and not _is_strings(data["tags"] or []):
        errors.append('"tags" must be an array')
    index = data.get("model-index")
    if index is not None:
        if not isinstance(index, list) or not all(isinstance(one, dict) for one in index):
            errors.append('"model-index" must be an array of objects')
        elif not all(isinstance(one.get("name"), str) and one["name"] for one in index):
            errors.append('"model-index[0].name" is required')
    unknown = [one for one in strings(data.get("license")) if one not in LICENSES]
    if unknown:
        errors.append('"license" must be one of the identifiers that clients know, such as apache-2.0, mit, other')
    for key in ("pipeline_tag", "library_name", "base_model"):
        value = data.get(key)
        if not (value is None or isinstance(value, str) or (key == "base_model" and _is_strings(value))):
            errors.append(f'"{key}" must be a string')
    return list(dict.fromkeys(errors)), ["no license is given"] * (repo_type == "model" and "license" not in data)


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
