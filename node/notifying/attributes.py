"""Attributes of a study's header for who configured that a notification names them."""

from collections.abc import Mapping, Sequence

from ainode.node.encoding import headers
from ainode.node.errors import NodeError
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.records import Job


class Headers:
    """Reads attributes from the files of a study, while they are there."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def of_job(self, job: Job, keywords: Sequence[str]) -> Mapping[str, str]:
        """Return the values that an image of a job has for these keywords; none where the file is gone.

        A study whose images are of two patients has no answer, so that any of its images tells whose an answer is.
        """
        for stored in self._catalog.instances(job.study_instance_uid):
            if stored.ref.sop_instance_uid in job.content:
                try:
                    instance = headers.instance(stored.path, sha256=stored.sha256, keywords=frozenset(keywords))
                except (NodeError, OSError):
                    continue
                values = {keyword: instance.text(keyword) for keyword in keywords}
                return {keyword: value for keyword, value in values.items() if value}
        return {}
