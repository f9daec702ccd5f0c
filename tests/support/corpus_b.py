"""The second half of the corpus of failures, written without sight of the normaliser: 36 causes of 24 variants each.

A variant is what one failed attempt leaves: an error's type, its message and its stack trace. Variants of one cause
differ in what changes from job to job (ids, addresses, times, hosts, sizes, line numbers), as production's do.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from random import Random
from typing import Final

#: (type, message, stack trace or None)
Failure = tuple[str, str, str | None]
Maker = Callable[[Random], Failure]

SEED: Final = 20_261_126
VARIANTS: Final = 24

_FIRST = [
    "anna",
    "ben",
    "chloe",
    "dmitri",
    "elif",
    "farid",
    "grace",
    "hiro",
    "ines",
    "jörg",
    "kemal",
    "léa",
    "maría",
    "noah",
    "olu",
    "priya",
    "quinn",
    "rosa",
    "sven",
    "tomás",
]
_LAST = [
    "schmidt",
    "o'brien",
    "garcía",
    "tanaka",
    "müller",
    "rossi",
    "novák",
    "dubois",
    "kowalski",
    "silva",
    "öztürk",
    "nguyen",
]
_DOMAIN = [
    "example.com",
    "mail.example.org",
    "kunde.example",
    "web.example.net",
    "firma-nord.example",
    "post.example.co.uk",
]
_HOST = ["mx1", "mx-02", "smtp-eu-west-1a", "relay7", "node-13", "db-primary", "cache-3", "api-gw-5", "worker-77"]


def _id(r: Random) -> str:
    return str(uuid.UUID(int=r.getrandbits(128), version=4))


def _mail(r: Random) -> str:
    return f"{r.choice(_FIRST)}.{r.choice(_LAST)}{r.choice(['', str(r.randint(1, 99))])}@{r.choice(_DOMAIN)}"


def _host(r: Random) -> str:
    return f"{r.choice(_HOST)}.{r.choice(_DOMAIN)}"


def _ip(r: Random) -> str:
    return ".".join(str(r.randint(1, 254)) for _ in range(4))


def _ip6(r: Random) -> str:
    return "2001:db8:" + ":".join(f"{r.getrandbits(16):x}" for _ in range(6))


def _hex(r: Random, digits: int) -> str:
    return f"{r.getrandbits(digits * 4):0{digits}x}"


def _stamp(r: Random) -> str:
    return f"2026-{r.randint(1, 12):02}-{r.randint(1, 28):02}T{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}.{r.randint(0, 999):03}Z"


def _day(r: Random) -> str:
    return f"2026-{r.randint(1, 12):02}-{r.randint(1, 28):02}"


def _python(r: Random, *frames: tuple[str, str], library: tuple[str, str] | None = None) -> str:
    lines = ["Traceback (most recent call last):"]
    drift = r.randint(0, 40)  # another release: every line number moves
    for n, (path, function) in enumerate(frames):
        lines += [f'  File "/srv/app/{path}", line {100 + 7 * n + drift}, in {function}', f"    do_{function}(job)"]
    if library:
        lines += [
            f'  File "/usr/lib/python3.12/site-packages/{library[0]}", line {r.randint(50, 900)}, in {library[1]}'
        ]
    return "\n".join(lines)


def _node(r: Random, *frames: tuple[str, str]) -> str:
    lines = [
        f"    at {function} (/srv/node/{path}:{r.randint(10, 400)}:{r.randint(3, 60)})" for function, path in frames
    ]
    lines.append(f"    at process.processTicksAndRejections (node:internal/process/task_queues:{r.randint(90, 110)}:5)")
    return "\n".join(lines)


def _smtp_unknown_user(r: Random) -> Failure:
    who = _mail(r)
    return (
        "SMTPRecipientsRefused",
        f"{{'{who}': (550, b'5.1.1 <{who}>: Recipient address rejected: User unknown in virtual mailbox table')}}",
        _python(r, ("mailer/send.py", "deliver"), library=("smtplib.py", "sendmail")),
    )


def _smtp_full(r: Random) -> Failure:
    return (
        "SMTPDataError",
        f"(452, b'4.2.2 <{_mail(r)}>: Mailbox full, {r.randint(90, 120)}% of {r.randint(1, 50)} GB used [{_host(r)}]')",
        _python(r, ("mailer/send.py", "deliver"), library=("smtplib.py", "data")),
    )


def _smtp_greylist(r: Random) -> Failure:
    return (
        "SMTPSenderRefused",
        f"(451, b'4.7.1 Greylisted, please try again in {r.randint(30, 600)} seconds; see https://greylist.example/{_hex(r, 8)}', '{_mail(r)}')",
        _python(r, ("mailer/send.py", "deliver")),
    )


def _smtp_spam(r: Random) -> Failure:
    return (
        "SMTPDataError",
        f"(554, b'5.7.1 Message {_hex(r, 12).upper()} rejected as spam, score={r.uniform(5, 30):.1f}, required=5.0')",
        _python(r, ("mailer/send.py", "deliver")),
    )


def _smtp_auth(r: Random) -> Failure:
    return (
        "SMTPAuthenticationError",
        f"(535, b'5.7.8 Error: authentication failed: {base64.b64encode(r.randbytes(18)).decode()}')",
        _python(r, ("mailer/session.py", "login")),
    )


def _dns(r: Random) -> Failure:
    return "gaierror", f"[Errno -2] Name or service not known: {_host(r)}", _python(r, ("mailer/session.py", "connect"))


def _refused(r: Random) -> Failure:
    return (
        "ConnectionRefusedError",
        f"[Errno 111] Connect call failed ('{_ip(r)}', {r.choice([25, 587, 465, 2525])})",
        _python(r, ("mailer/session.py", "connect")),
    )


def _redis_timeout(r: Random) -> Failure:
    return (
        "TimeoutError",
        f"Timeout reading from {_host(r)}:{r.randint(6379, 6399)} after {r.uniform(0.5, 30):.2f}s",
        _python(r, ("cache/client.py", "get_many"), library=("redis/connection.py", "read_response")),
    )


def _http_429(r: Random) -> Failure:
    return (
        "HTTPStatusError",
        f"Client error '429 Too Many Requests' for url 'https://api.crm.example/v2/contacts/{r.randint(1, 10**7)}?cursor={_hex(r, 16)}' Retry-After: {r.randint(1, 120)}",
        _python(r, ("crm/sync.py", "push_contact"), library=("httpx/_models.py", "raise_for_status")),
    )


def _http_502(r: Random) -> Failure:
    return (
        "HTTPStatusError",
        f"Server error '502 Bad Gateway' for url 'https://api.crm.example/v2/contacts/{r.randint(1, 10**7)}?cursor={_hex(r, 16)}'",
        _python(r, ("crm/sync.py", "push_contact"), library=("httpx/_models.py", "raise_for_status")),
    )


def _http_404(r: Random) -> Failure:
    return (
        "HTTPStatusError",
        f"Client error '404 Not Found' for url 'https://api.crm.example/v2/contacts/{r.randint(1, 10**7)}?cursor={_hex(r, 16)}'",
        _python(r, ("crm/sync.py", "push_contact"), library=("httpx/_models.py", "raise_for_status")),
    )


def _tls(r: Random) -> Failure:
    return (
        "SSLCertVerificationError",
        f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:{r.randint(990, 1020)}) host={_host(r)} notAfter={_stamp(r)}",
        _python(r, ("webhooks/post.py", "post")),
    )


def _deadlock(r: Random) -> Failure:
    a, b = r.randint(1000, 99999), r.randint(1000, 99999)
    return (
        "DeadlockDetected",
        f"deadlock detected\nDETAIL:  Process {a} waits for ShareLock on transaction {r.randint(10**5, 10**9)}; blocked by process {b}.\nProcess {b} waits for ShareLock on transaction {r.randint(10**5, 10**9)}; blocked by process {a}.\nHINT:  See server log for query details.",
        _python(r, ("billing/usage.py", "add_usage")),
    )


def _unique(r: Random) -> Failure:
    return (
        "UniqueViolation",
        f'duplicate key value violates unique constraint "contacts_email_key"\nDETAIL:  Key (account_id, email)=({r.randint(1, 10**6)}, {_mail(r)}) already exists.',
        _python(r, ("contacts/importer.py", "insert_row")),
    )


def _unique_other(r: Random) -> Failure:
    return (
        "UniqueViolation",
        f'duplicate key value violates unique constraint "invoices_number_key"\nDETAIL:  Key (number)=(RE-2026-{r.randint(1, 99999):05}) already exists.',
        _python(r, ("billing/invoice.py", "issue")),
    )


def _foreign(r: Random) -> Failure:
    return (
        "ForeignKeyViolation",
        f'insert or update on table "deliveries" violates foreign key constraint "deliveries_campaign_id_fkey"\nDETAIL:  Key (campaign_id)=({r.randint(1, 10**6)}) is not present in table "campaigns".',
        _python(r, ("mailer/record.py", "record")),
    )


def _statement_timeout(r: Random) -> Failure:
    return (
        "QueryCanceled",
        f"canceling statement due to statement timeout\nCONTEXT:  SQL statement \"SELECT sum(amount) FROM payments WHERE tenant_id = {r.randint(1, 5000)} AND paid_on >= '{_day(r)}'\"",
        _python(r, ("analytics/revenue.py", "sum_payments")),
    )


def _disk(r: Random) -> Failure:
    return (
        "DiskFull",
        f'could not extend file "base/{r.randint(10000, 99999)}/{r.randint(10000, 99999)}.{r.randint(1, 9)}": wrote only {r.randint(1, 2) * 4096} of 8192 bytes at block {r.randint(1, 10**6)}\nHINT:  Check free disk space.',
        _python(r, ("analytics/revenue.py", "store_rollup")),
    )


def _division(r: Random) -> Failure:
    return "ZeroDivisionError", "division by zero", _python(r, ("analytics/mrr.py", "average_revenue"))


def _division_elsewhere(r: Random) -> Failure:
    return "ZeroDivisionError", "division by zero", _python(r, ("warmup/ramp.py", "daily_share"))


def _json(r: Random) -> Failure:
    line = r.randint(1, 400)
    return (
        "JSONDecodeError",
        f"Expecting ',' delimiter: line {line} column {r.randint(1, 120)} (char {r.randint(100, 99999)})",
        _python(r, ("imports/parse.py", "load"), library=("json/decoder.py", "raw_decode")),
    )


def _decode(r: Random) -> Failure:
    at = r.randint(0, 99999)
    return (
        "UnicodeDecodeError",
        f"'utf-8' codec can't decode byte 0x{r.randint(128, 255):02x} in position {at}: invalid start byte",
        _python(r, ("imports/parse.py", "load")),
    )


def _memory(r: Random) -> Failure:
    return (
        "MemoryError",
        f"Unable to allocate {r.uniform(1, 90):.2f} GiB for an array with shape ({r.randint(10**6, 10**9)}, {r.randint(2, 90)}) and data type float64",
        _python(r, ("analytics/cohort.py", "matrix")),
    )


def _attribute(r: Random) -> Failure:
    return (
        "AttributeError",
        "'NoneType' object has no attribute 'timezone'",
        _python(r, ("mailer/schedule.py", "local_time")),
    )


def _object_address(r: Random) -> Failure:
    return (
        "RuntimeError",
        f"<Session object at 0x{_hex(r, 12)}> is bound to a different event loop <_UnixSelectorEventLoop running=True closed=False debug=False id={r.randint(10**14, 10**15)}>",
        _python(r, ("crm/sync.py", "session")),
    )


def _node_undefined(r: Random) -> Failure:
    return (
        "TypeError",
        "Cannot read properties of undefined (reading 'unsubscribeUrl')",
        _node(r, ("renderFooter", "templates/footer.js"), ("render", "templates/index.js")),
    )


def _node_reset(r: Random) -> Failure:
    return (
        "Error",
        f"read ECONNRESET {_ip(r)}:{r.randint(1024, 65535)} - Local ({_ip(r)}:{r.randint(1024, 65535)})",
        _node(r, ("TLSWrap.onStreamRead", "lib/pool.js"), ("post", "webhooks/post.js")),
    )


def _node_enoent(r: Random) -> Failure:
    return (
        "Error",
        f"ENOENT: no such file or directory, open '/var/spool/exports/{_day(r)}/{_id(r)}.csv.gz'",
        _node(r, ("upload", "exports/upload.js")),
    )


def _node_schema(r: Random) -> Failure:
    return (
        "ValidationError",
        f'"recipients[{r.randint(0, 5000)}].email" must be a valid email',
        _node(r, ("validate", "imports/validate.js")),
    )


def _template_de(r: Random) -> Failure:
    return (
        "VorlagenFehler",
        f"Vorlage {r.randint(1, 9999)} für Kundin „{r.choice(_FIRST).title()} {r.choice(_LAST).title()}“ konnte am {r.randint(1, 28):02}.{r.randint(1, 12):02}.2026 um {r.randint(0, 23):02}:{r.randint(0, 59):02} Uhr nicht gefüllt werden: Feld fehlt",
        _python(r, ("vorlagen/fuellen.py", "fuellen")),
    )


def _quota_fr(r: Random) -> Failure:
    return (
        "QuotaDepasse",
        f"Quota dépassé pour le client n° {r.randint(1, 99999)} : {r.randint(1000, 99999)} messages sur {r.randint(500, 900)} autorisés, réessayez dans {r.randint(1, 59)} min",
        _python(r, ("quota/verifier.py", "verifier")),
    )


def _ja(r: Random) -> Failure:
    return (
        "ValueError",
        f"顧客ID {r.randint(1, 999999)} の請求書（{_day(r)}）が見つかりません",
        _python(r, ("billing/seikyu.py", "fetch")),
    )


def _es(r: Random) -> Failure:
    return (
        "ErrorDePago",
        f"La tarjeta terminada en {r.randint(0, 9999):04} fue rechazada (operación {_hex(r, 20)}): fondos insuficientes, importe {r.randint(1, 900)},{r.randint(0, 99):02} €",
        _python(r, ("pagos/cobrar.py", "cobrar")),
    )


def _s3(r: Random) -> Failure:
    return (
        "ClientError",
        f"An error occurred (AccessDenied) when calling the PutObject operation: User: arn:aws:sts::{r.randint(10**11, 10**12 - 1)}:assumed-role/exporter/i-{_hex(r, 17)} is not authorized to perform: s3:PutObject (request id {_hex(r, 16).upper()})",
        _python(r, ("exports/s3.py", "put"), library=("botocore/client.py", "_make_api_call")),
    )


def _s3_slow(r: Random) -> Failure:
    return (
        "ClientError",
        f"An error occurred (SlowDown) when calling the PutObject operation (reached max retries: {r.randint(2, 9)}): Please reduce your request rate. (request id {_hex(r, 16).upper()})",
        _python(r, ("exports/s3.py", "put"), library=("botocore/client.py", "_make_api_call")),
    )


def _killed(r: Random) -> Failure:
    return (
        "WorkerLost",
        f"worker {r.choice(_HOST)}-{r.randint(1, 64)}:{r.randint(100, 65000)} exited with signal 9 (SIGKILL) after {r.randint(1, 3600)} s, job {_id(r)}, rss {r.randint(200, 4000)} MB",
        None,
    )


def _ip6_unreachable(r: Random) -> Failure:
    return (
        "OSError",
        f"[Errno 101] Network is unreachable: [{_ip6(r)}]:{r.choice([25, 587])}",
        _python(r, ("mailer/session.py", "connect")),
    )


def _java(r: Random) -> Failure:
    return (
        "java.lang.IllegalStateException",
        f"Tenant {_id(r)} has no active plan since {_stamp(r)}",
        f"java.lang.IllegalStateException: no plan\n\tat com.acme.billing.PlanResolver.resolve(PlanResolver.java:{r.randint(20, 300)})\n\tat com.acme.billing.UsageJob.run(UsageJob.java:{r.randint(20, 300)})\n\tat java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:{r.randint(1100, 1200)})",
    )


def _pdf(r: Random) -> Failure:
    return (
        "CalledProcessError",
        f"Command '['wkhtmltopdf', '--quiet', '/tmp/tmp{_hex(r, 8)}.html', '/tmp/invoice-{r.randint(1, 10**6)}.pdf']' returned non-zero exit status 1.",
        _python(r, ("billing/pdf.py", "render"), library=("subprocess.py", "run")),
    )


def _oom_redis(r: Random) -> Failure:
    return (
        "OutOfMemoryError",
        f"command not allowed when used memory > 'maxmemory'. script: {_hex(r, 40)}, on @user_script:{r.randint(1, 90)}.",
        _python(r, ("cache/client.py", "set_many")),
    )


MAKERS: Final[dict[str, Maker]] = {
    name[1:]: value for name, value in list(globals().items())
    if callable(value) and getattr(value, "__annotations__", {}).get("return") == "Failure"
}  # fmt: skip


def corpus(seed: int = SEED) -> list[tuple[str, Failure]]:
    """(cause, failure) pairs, the same for the same seed."""
    random = Random(seed)
    return [(name, make(random)) for name, make in MAKERS.items() for _ in range(VARIANTS)]
