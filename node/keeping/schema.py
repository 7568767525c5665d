"""The tables of the catalog; `migrations/` builds them."""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)
_time = sa.DateTime(timezone=True)


def _reference() -> list[sa.Column[str]]:
    names = ("study_instance_uid", "series_instance_uid", "sop_class_uid")
    return [sa.Column(name, sa.String(64), nullable=False) for name in names]


studies = sa.Table(
    "studies",
    metadata,
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    sa.Column("first_received_at", _time, nullable=False),
    sa.Column("last_received_at", _time, nullable=False),
    sa.Column("content_hash", sa.String(64), nullable=False, server_default=""),
    sa.Column("explanation", sa.Text, nullable=False, server_default=""),
    # whether `content_hash` is that of the instances as they are
    sa.Column("is_routed", sa.Boolean, nullable=False, server_default=sa.false(), index=True),
    # which of the instances could not be read
    sa.Column("problem", sa.Text, nullable=False, server_default=""),
    # why the study is not routed yet
    sa.Column("fault", sa.Text, nullable=False, server_default=""),
)

# When and why a study counted as complete, once for each time that the study was routed; it outlives the instances.
completions = sa.Table(
    "completions",
    metadata,
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    sa.Column("at", _time, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("instance_count", sa.Integer, nullable=False),
    sa.Column("first_received_at", _time, nullable=False),
    sa.Column("last_received_at", _time, nullable=False),
)

# Why no route took a study that is routed: the first condition that failed of the nearest route.
mismatches = sa.Table(
    "mismatches",
    metadata,
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    # no_route or set_aside
    sa.Column("reason", sa.String(16), nullable=False),
    sa.Column("received_at", _time, nullable=False, index=True),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("series_instance_uid", sa.String(64), nullable=False),
    sa.Column("attribute", sa.Text, nullable=False),
    sa.Column("expected", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
)

instances = sa.Table(
    "instances",
    metadata,
    *_reference(),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("calling_ae_title", sa.String(16), nullable=False),
    sa.Column("received_at", _time, nullable=False),
    # an instance UID that two studies claim is two instances to us
    sa.PrimaryKeyConstraint("study_instance_uid", "sop_instance_uid"),
    sa.Index(None, "sop_instance_uid"),
)

# Names in clear, as in notices of subscriptions that include them; `[console] patient` decides what this table holds.
patient_index = sa.Table(
    "patient_index",
    metadata,
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("patient_id", sa.Text, nullable=False),
    sa.Column("accession_number", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("study_date", sa.Text, nullable=False),
    sa.Column("modalities", sa.Text, nullable=False),
    sa.Column("is_synthetic", sa.Boolean, nullable=False, server_default=sa.false()),
    # all texts of these as a search compares them
    sa.Column("sought", sa.Text, nullable=False),
)

senders = sa.Table(
    "senders",
    metadata,
    sa.Column("ae_title", sa.String(16), primary_key=True),
    sa.Column("history", sa.Text, nullable=False),
)

announcements = sa.Table(
    "announcements",
    metadata,
    sa.Column("study_instance_uid", sa.String(64), primary_key=True),
    sa.Column("announced_at", _time, nullable=False),
    sa.Column("peer", sa.Text, nullable=False),
    sa.Column("expected", sa.Integer),
    sa.Column("read_now", sa.Boolean, nullable=False),
    sa.Column("locations", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", _time, nullable=False),
    sa.Column("orthanc_studies", sa.Text, nullable=False, server_default=""),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    # what the job reads: the identifier of the first job with these inputs
    sa.Column("inputs", sa.String(32), nullable=False, server_default=""),
    sa.Column("study_instance_uid", sa.String(64), nullable=False, index=True),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("handler", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("destinations", sa.Text, nullable=False),
    sa.Column("mode", sa.String(16), nullable=False, server_default=""),  # of the route as it chose them
    sa.Column("predecessors", sa.Text, nullable=False, server_default="[]"),
    # the job of another route that took its place; of its own route the newest job has
    sa.Column("successor", sa.String(32), nullable=False, server_default=""),
    sa.Column("withdrawn_at", sa.DateTime(timezone=True)),
    sa.Column("locations", sa.Text, nullable=False, server_default="[]"),
    sa.Column("created_at", _time, nullable=False),
    sa.Column("queued_at", _time, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("result", sa.Text, nullable=False, server_default=""),
    sa.Column("seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("overheads", sa.Text, nullable=False, server_default="{}"),
    sa.Column("withheld", sa.Text, nullable=False, server_default=""),
    sa.Column("refusal", sa.Text, nullable=False, server_default=""),
    # whether the search for priors has ended
    sa.Column("searched", sa.Boolean, nullable=False, server_default=sa.false()),
    # when the last attempt to read began, and when the job had an answer or failed
    sa.Column("reading_at", _time),
    sa.Column("finished_at", _time),
    # when the newest job of the study was queued: rows of a study stand together in the worklist
    sa.Column("listed_at", _time),
    # The worklist walks along this index alone; what a job reads is too long to be passed over in each row.
    sa.Index("ix_jobs_listed_at", "listed_at", "study_instance_uid", "route", "id", "queued_at", "state", "priority"),
)

documents = sa.Table(
    "documents",
    metadata,
    *_reference(),
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id"), nullable=False, index=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    # the only destination that gets the document; '' of a document for every archive
    sa.Column("destination", sa.Text, nullable=False, server_default=""),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), sa.ForeignKey("documents.sop_instance_uid"), primary_key=True),
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("archive_status", sa.Integer),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("proof", sa.Text, nullable=False, server_default=""),
    sa.Column("transaction_uid", sa.String(64), nullable=False, server_default="", index=True),
    # set before the first byte leaves: from then on the archive may hold the document
    sa.Column("tried_at", _time),
    sa.Column("sent_at", _time),
    sa.Column("confirmed_at", _time),
    # the last time that the archive was asked again and still had the document
    sa.Column("checked_at", _time),
    # the archive's own words about the document, and about the last question for a proof; never in a log
    sa.Column("archive_comment", sa.Text, nullable=False, server_default=""),
    sa.Column("proof_comment", sa.Text, nullable=False, server_default=""),
    # the Transaction UIDs of all requests of commitment: an archive may report on any of them
    sa.Column("transactions", sa.Text, nullable=False, server_default=""),
    # whether the archive is asked for a proof no more; a proof that comes still counts
    sa.Column("settled", sa.Boolean, nullable=False, server_default=sa.false()),
)

# When what remains to be done for a job is tried next; what remains is in the states of jobs and deliveries.
tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("turn", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", _time),
    # of a reading: the last executor that took it, and how many were lost with it
    sa.Column("executor", sa.String(128), nullable=False, server_default=""),
    sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
)

# What was given up on the way of a job, and who had it tried again; goes with the job.
job_events = sa.Table(
    "job_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job", sa.String(32), sa.ForeignKey("jobs.id"), nullable=False, index=True),
    sa.Column("at", _time, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    # the reading, documents of the reading, or an addendum
    sa.Column("subject", sa.String(16), nullable=False),
    # '' of a reading
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # never the archive's own words
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    sa.Column("person", sa.String(64), nullable=False, server_default=""),
)

# What stays of a job when its documents are removed.
history = sa.Table(
    "history",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("study_instance_uid", sa.String(64), nullable=False, index=True),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("handler", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("queued_at", _time, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("removed_at", _time, nullable=False),
)

persons = sa.Table(
    "persons",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    # argon2id with its parameters and salt; '' for who comes through a proxy alone
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("created_at", _time, nullable=False),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("person", sa.String(64), sa.ForeignKey("persons.name"), nullable=False, index=True),
    sa.Column("csrf", sa.String(64), nullable=False),
    sa.Column("created_at", _time, nullable=False),
    sa.Column("seen_at", _time, nullable=False),
)

# What each job answered, in the columns that figures and searches need; it outlives the job.
answers = sa.Table(
    "answers",
    metadata,
    sa.Column("job", sa.String(32), primary_key=True),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("handler", sa.Text, nullable=False),
    # of the algorithm; '' where the study was refused
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("weights_sha256", sa.String(64), nullable=False),
    sa.Column("weights_status", sa.String(16), nullable=False, server_default=""),
    # of the strongest verdict; '' without a verdict
    sa.Column("presence", sa.String(16), nullable=False),
    sa.Column("probability", sa.Float),
    sa.Column("threshold", sa.Float),
    sa.Column("headline", sa.Text, nullable=False),
    # of a refusal; '' where the study was read
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("at", _time, nullable=False, index=True),
    # whether a later job of the route read the study again
    sa.Column("is_superseded", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index(None, "study_instance_uid", "route"),
    sa.Index("ix_answers_handler_at", "handler", "at"),
    sa.Index("ix_answers_route_at", "route", "at"),
)

# What persons say of findings and results; a row is never changed, and outlives the job.
judgements = sa.Table(
    "judgements",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job", sa.String(32), nullable=False),
    # tracking identifier; '' for the whole result
    sa.Column("finding", sa.Text, nullable=False),
    # what the model said: its words, and present, absent, indeterminate or ''
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("presence", sa.String(16), nullable=False),
    sa.Column("opinion", sa.String(16), nullable=False),
    # what holds instead
    sa.Column("presence_instead", sa.String(16), nullable=False),
    sa.Column("measurement", sa.Text, nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("reason", sa.String(16), nullable=False),
    # never in a log or in the audit trail
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("person", sa.String(64), nullable=False),
    sa.Column("judged_at", _time, nullable=False, index=True),
    sa.Index("ix_judgements_job_finding", "job", "finding"),
)

# The documents of judgements that are to leave: due, composed or failed.
addenda = sa.Table(
    "addenda",
    metadata,
    sa.Column("judgement", sa.Integer, sa.ForeignKey("judgements.id"), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False, server_default=""),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
)

# What the node tells people: written before it is sent, and sent with the same bytes until it is taken or given up.
notices = sa.Table(
    "notices",
    metadata,
    # the same for the same news and the same subscription, so that nothing is told twice
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("subscription", sa.String(64), nullable=False),
    sa.Column("occasion", sa.String(16), nullable=False),
    # the job, the queue, or the kind of an alert
    sa.Column("subject", sa.Text, nullable=False),
    # '' of what is about no study
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    # JSON; names the patient only where the subscription includes that
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", _time, nullable=False),
    # waiting, sent or failed
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", _time, nullable=False),
    # when it was taken or given up
    sa.Column("ended_at", _time),
    sa.Column("error", sa.Text, nullable=False, server_default=""),
    # of a queue: whether it still waits for too long
    sa.Column("is_open", sa.Boolean, nullable=False, server_default=sa.false(), index=True),
    sa.Index("ix_notices_state", "state", "subscription"),
)

# Workitems of worklists: written before the node claims an item, and before it ends one.
workitems = sa.Table(
    "workitems",
    metadata,
    sa.Column("peer", sa.Text, primary_key=True),
    sa.Column("uid", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("study_instance_uid", sa.String(64), nullable=False, index=True),
    sa.Column("source", sa.Text, nullable=False),
    # the lock that the worklist knows the node by
    sa.Column("transaction_uid", sa.String(64), nullable=False),
    sa.Column("found_at", _time, nullable=False),
    sa.Column("claimed_at", _time),
    sa.Column("decided_at", _time),
    sa.Column("ended_at", _time),
    sa.Column("percent", sa.Integer, nullable=False),
    sa.Column("is_cancel_requested", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("reason_code", sa.String(16), nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", _time),
)

# The processes that work at jobs on a PostgreSQL, each from one start to its end; times are the database's.
executors = sa.Table(
    "executors",
    metadata,
    # name and start: a process that begins anew is another executor
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    # node or worker
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    # JSON: the handlers that it reads with
    sa.Column("handlers", sa.Text, nullable=False),
    # JSON: what it must have in common with the node, by what it is
    sa.Column("terms", sa.Text, nullable=False),
    sa.Column("started_at", _time, nullable=False),
    sa.Column("beat_at", _time, nullable=False),
    # when it stopped, or was taken for dead: from then on it changes nothing
    sa.Column("dead_at", _time),
    sa.Column("departure", sa.String(16), nullable=False, server_default=""),
)
