"""How demo jobs fail: error classes with the stack traces that a Python and a Node service would leave.

History draws from here, and live handlers raise from here. `$name` in a text is filled in from the job's payload or,
for numbers that a server would make up, from the dice.
"""

# ruff: noqa: E501 - traces keep the width of the services that printed them
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from string import Template
from typing import Any, Final

from queuemon.demo.queues import ANALYTICS, EMAIL, HIGH, LOW, WARMUP


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An error class of the demo's services."""

    key: str
    #: Queues it happens in.
    queues: tuple[str, ...]
    error_type: str
    message: str
    #: The trace as the service printed it; ends (Python) or begins (Node) with the message.
    trace: str
    #: How often, beside the other faults of the queue; 0 is never by chance.
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One occurrence of a fault."""

    error_type: str
    message: str
    trace: str


def occurrence(fault: Fault, payload: Mapping[str, Any], rng: Random) -> Failure:
    """A fault as it happened to one job."""
    recipient = payload.get("recipient") or {}
    values = {
        "email": recipient.get("email") or payload.get("mailbox") or "someone@example.com",
        "user": recipient.get("user_id", 0),
        "locale": recipient.get("locale", "en-US"),
        "template": payload.get("template", "newsletter-weekly"),
        "region": payload.get("region", "us-east"),
        "campaign": payload.get("campaign_id", "cmp-2026-1101"),
        "account": payload.get("account_id", 1_000),
        "month": payload.get("month", "2026-10"),
        "plan": payload.get("plan", "starter"),
        "bucket": (payload.get("deliver") or {}).get("bucket", "exports-00"),
        "export": payload.get("export", "contacts"),
        "host": f"203.0.113.{1 + int(rng.random() * 250)}",
        "port": 30_000 + int(rng.random() * 30_000),
        "pid": 1_000 + int(rng.random() * 60_000),
        "ms": 10_000 + int(rng.random() * 5_000),
        "seconds": 1 + int(rng.random() * 29),
        "hex": f"{rng.getrandbits(48):012x}",
    }
    message = Template(fault.message).substitute(values)
    return Failure(
        error_type=fault.error_type,
        message=message,
        trace=Template(fault.trace).substitute(values, message=message),
    )


def draw(queue: str, rng: Random) -> Fault:
    """A fault of a queue, by weight."""
    faults, weights = _BY_QUEUE[queue]
    return rng.choices(faults, weights)[0]


_SMTP_REFUSED: Final = Fault(
    key="smtp-refused",
    queues=(HIGH, EMAIL),
    error_type="smtplib.SMTPRecipientsRefused",
    message="{'$email': (451, b'4.7.1 Greylisting in action, please come back in $seconds seconds')}",
    weight=2.0,
    trace="""\
Traceback (most recent call last):
  File "/srv/mailer/mailer/worker.py", line 88, in run
    return self.handlers[job.queue](job)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/mailer/mailer/handlers/send.py", line 61, in send_email
    receipt = transport.deliver(message, recipient)
              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/mailer/mailer/transport/smtp.py", line 134, in deliver
    refused = connection.send_message(message, to_addrs=[recipient.email])
              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/smtplib.py", line 987, in send_message
    return self.sendmail(from_addr, to_addrs, flatmsg, mail_options,
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/smtplib.py", line 898, in sendmail
    raise SMTPRecipientsRefused(senderrs)
smtplib.SMTPRecipientsRefused: $message
""",
)

_READ_TIMEOUT: Final = Fault(
    key="provider-timeout",
    queues=(HIGH, EMAIL),
    error_type="httpx.ReadTimeout",
    message="The read operation timed out after $ms ms: POST https://api.mail-provider.example.net/v3/send",
    weight=3.0,
    trace="""\
Traceback (most recent call last):
  File "/usr/local/lib/python3.12/site-packages/httpcore/_exceptions.py", line 10, in map_exceptions
    yield
  File "/usr/local/lib/python3.12/site-packages/httpcore/_backends/sync.py", line 128, in read
    return self._sock.recv(max_bytes)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/ssl.py", line 1232, in recv
    return self.read(buflen)
           ^^^^^^^^^^^^^^^^^
TimeoutError: The read operation timed out

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/mailer/mailer/worker.py", line 88, in run
    return self.handlers[job.queue](job)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/mailer/mailer/handlers/send.py", line 61, in send_email
    receipt = transport.deliver(message, recipient)
              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/mailer/mailer/transport/http.py", line 77, in deliver
    response = self.client.post("/v3/send", json=message.as_dict(), timeout=self.timeout)
               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/site-packages/httpx/_client.py", line 1144, in post
    return self.request(
           ^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/site-packages/httpx/_transports/default.py", line 118, in map_httpcore_exceptions
    raise mapped_exc(message) from exc
httpx.ReadTimeout: $message
""",
)

_RATE_LIMIT: Final = Fault(
    key="rate-limit",
    queues=(EMAIL,),
    error_type="ResponseError",
    message="Too Many Requests: campaign $campaign exceeded 600 messages/min, retry after $seconds s",
    weight=2.0,
    trace="""\
ResponseError: $message
    at Request.http [as _callback] (/srv/campaigns/node_modules/@sendgrid/client/src/classes/client.js:146:29)
    at /srv/campaigns/node_modules/axios/lib/core/settle.js:19:12
    at IncomingMessage.handleStreamEnd (/srv/campaigns/node_modules/axios/lib/adapters/http.js:599:11)
    at IncomingMessage.emit (node:events:530:35)
    at endReadableNT (node:internal/streams/readable:1698:12)
    at process.processTicksAndRejections (node:internal/process/task_queues:90:21)
    at async ProviderGateway.send (/srv/campaigns/dist/gateway/provider.js:58:22)
    at async sendCampaignEmail (/srv/campaigns/dist/jobs/send-campaign-email.js:41:5)
    at async JobRunner.run (/srv/campaigns/dist/runner.js:112:18)
""",
)

_MERGE_FIELD: Final = Fault(
    key="merge-field",
    queues=(EMAIL,),
    error_type="TypeError",
    message="Cannot read properties of undefined (reading 'firstName')",
    weight=1.0,
    trace="""\
TypeError: $message
    at mergeFields (/srv/campaigns/dist/render/merge-fields.js:27:41)
    at Object.main (eval at createFunctionContext (/srv/campaigns/node_modules/handlebars/dist/cjs/handlebars/compiler/javascript-compiler.js:262:23), <anonymous>:11:190)
    at main (/srv/campaigns/node_modules/handlebars/dist/cjs/handlebars/runtime.js:208:32)
    at ret (/srv/campaigns/node_modules/handlebars/dist/cjs/handlebars/runtime.js:212:12)
    at renderTemplate (/srv/campaigns/dist/render/index.js:63:20)
    at async sendCampaignEmail (/srv/campaigns/dist/jobs/send-campaign-email.js:34:18)
    at async JobRunner.run (/srv/campaigns/dist/runner.js:112:18)
""",
)

_STATEMENT_TIMEOUT: Final = Fault(
    key="export-timeout",
    queues=(LOW,),
    error_type="psycopg.errors.QueryCanceled",
    message="canceling statement due to statement timeout (export of $export for account $account)",
    weight=2.0,
    trace="""\
Traceback (most recent call last):
  File "/srv/mailer/mailer/worker.py", line 88, in run
    return self.handlers[job.queue](job)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/mailer/mailer/handlers/export.py", line 47, in bulk_export
    for page in reader.pages(account, size=5_000):
  File "/srv/mailer/mailer/exports/reader.py", line 92, in pages
    rows = cursor.execute(query, {"account": account, "after": after}).fetchall()
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/site-packages/psycopg/cursor.py", line 97, in execute
    raise ex.with_traceback(None)
psycopg.errors.QueryCanceled: $message
""",
)

_SLOW_DOWN: Final = Fault(
    key="s3-slow-down",
    queues=(LOW,),
    error_type="botocore.exceptions.ClientError",
    message=(
        "An error occurred (SlowDown) when calling the UploadPart operation (reached max retries: 4): "
        "Please reduce your request rate. bucket=$bucket request=$hex"
    ),
    trace="""\
Traceback (most recent call last):
  File "/srv/mailer/mailer/handlers/export.py", line 58, in bulk_export
    upload.part(buffer.getvalue())
  File "/srv/mailer/mailer/exports/upload.py", line 71, in part
    answer = self.s3.upload_part(Bucket=self.bucket, Key=self.key, PartNumber=number, Body=body)
             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/site-packages/botocore/client.py", line 569, in _api_call
    return self._make_api_call(operation_name, kwargs)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/site-packages/botocore/client.py", line 1023, in _make_api_call
    raise error_class(parsed_response, operation_name)
botocore.exceptions.ClientError: $message
""",
)

_SOCKET_HANG_UP: Final = Fault(
    key="socket-hang-up",
    queues=(LOW,),
    error_type="Error",
    message="socket hang up: PUT https://$bucket.storage.example.org/ (ECONNRESET)",
    trace="""\
Error: $message
    at TLSSocket.socketOnEnd (node:_http_client:542:25)
    at TLSSocket.emit (node:events:530:35)
    at endReadableNT (node:internal/streams/readable:1698:12)
    at process.processTicksAndRejections (node:internal/process/task_queues:90:21)
    at async ArchiveStream.flush (/srv/exports/dist/archive-stream.js:88:9)
    at async writeExport (/srv/exports/dist/jobs/write-export.js:52:7) {
  code: 'ECONNRESET'
}
""",
)

_DEADLOCK: Final = Fault(
    key="deadlock",
    queues=(ANALYTICS,),
    error_type="psycopg.errors.DeadlockDetected",
    message="deadlock detected: process $pid waits for ShareLock on transaction $port",
    weight=2.0,
    trace="""\
Traceback (most recent call last):
  File "/srv/analytics/analytics/runner.py", line 54, in run
    result = task(payload)
             ^^^^^^^^^^^^^
  File "/srv/analytics/analytics/tasks/daily_aggregate.py", line 73, in aggregate
    store.upsert_month(account, month, values)
  File "/srv/analytics/analytics/store.py", line 118, in upsert_month
    cursor.execute(UPSERT_MONTH, values)
  File "/usr/local/lib/python3.12/site-packages/psycopg/cursor.py", line 97, in execute
    raise ex.with_traceback(None)
psycopg.errors.DeadlockDetected: $message
""",
)

_RATES_MISSING: Final = Fault(
    key="exchange-rate",
    queues=(ANALYTICS,),
    error_type="KeyError",
    message="'no exchange rate for $month'",
    trace="""\
Traceback (most recent call last):
  File "/srv/analytics/analytics/runner.py", line 54, in run
    result = task(payload)
             ^^^^^^^^^^^^^
  File "/srv/analytics/analytics/tasks/daily_aggregate.py", line 66, in aggregate
    revenue = currency.convert(payload["revenue_cents"], payload["currency"], month)
              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/analytics/analytics/currency.py", line 29, in convert
    rate = self.rates[month]
           ~~~~~~~~~~^^^^^^^
KeyError: $message
""",
)

_IMAP_ABORT: Final = Fault(
    key="imap-abort",
    queues=(WARMUP,),
    error_type="imaplib.IMAP4.abort",
    message="command: SELECT => Temporary System Error (mailbox $email)",
    weight=2.0,
    trace="""\
Traceback (most recent call last):
  File "/srv/warmup/warmup/worker.py", line 41, in step
    self.steps[payload["step"]](mailbox)
  File "/srv/warmup/warmup/steps.py", line 86, in move_from_spam
    mailbox.select("[Spam]")
  File "/srv/warmup/warmup/mailbox.py", line 52, in select
    status, data = self.imap.select(folder)
                   ^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/imaplib.py", line 756, in select
    typ, dat = self._simple_command(name, mailbox)
               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/imaplib.py", line 1074, in _command_complete
    raise self.abort('command: %s => %s' % (name, val))
imaplib.IMAP4.abort: $message
""",
)

_CONNECT_TIMEOUT: Final = Fault(
    key="connect-timeout",
    queues=(WARMUP,),
    error_type="Error",
    message="connect ETIMEDOUT $host:993",
    trace="""\
Error: $message
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1637:16)
    at TCPConnectWrap.callbackTrampoline (node:internal/async_hooks:130:17)
    at async ImapFlow.connect (/srv/warmup-node/node_modules/imapflow/lib/imap-flow.js:1142:9)
    at async MailboxSession.open (/srv/warmup-node/dist/mailbox-session.js:37:7)
    at async warmupStep (/srv/warmup-node/dist/jobs/warmup-step.js:22:21) {
  errno: -110,
  code: 'ETIMEDOUT',
  syscall: 'connect',
  port: 993
}
""",
)

#: The incident of the history: a deploy renamed a variable that the shared layout still used.
RENDERING: Final = Fault(
    key="rendering",
    queues=(HIGH, EMAIL),
    error_type="jinja2.exceptions.UndefinedError",
    message="'unsubscribe_url' is undefined (template $template, locale $locale)",
    weight=0,
    trace="""\
Traceback (most recent call last):
  File "/srv/mailer/mailer/worker.py", line 88, in run
    return self.handlers[job.queue](job)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/mailer/mailer/handlers/send.py", line 52, in send_email
    body = renderer.render(job.payload["template"], recipient)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/mailer/mailer/rendering/renderer.py", line 39, in render
    return self.environment.get_template(name).render(context)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/local/lib/python3.12/site-packages/jinja2/environment.py", line 1295, in render
    self.environment.handle_exception()
  File "/usr/local/lib/python3.12/site-packages/jinja2/environment.py", line 942, in handle_exception
    raise rewrite_traceback_stack(source=source)
  File "/srv/mailer/templates/layout/footer.html.j2", line 14, in block "footer"
    <a href="{{ unsubscribe_url | safe_link }}">{{ _("Unsubscribe") }}</a>
jinja2.exceptions.UndefinedError: $message
""",
)

#: Scenario mrr-bug: a plan without subscriptions.
MRR: Final = Fault(
    key="mrr",
    queues=(ANALYTICS,),
    error_type="ZeroDivisionError",
    message="Division by zero in MRR calculation",
    weight=0,
    trace="""\
Traceback (most recent call last):
  File "/srv/analytics/analytics/metrics/mrr.py", line 44, in average_revenue_per_account
    return revenue_cents / active_subscriptions
           ~~~~~~~~~~~~~~^~~~~~~~~~~~~~~~~~~~~~
ZeroDivisionError: division by zero

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/analytics/analytics/runner.py", line 54, in run
    result = task(payload)
             ^^^^^^^^^^^^^
  File "/srv/analytics/analytics/tasks/daily_aggregate.py", line 68, in aggregate
    values["mrr"] = mrr.monthly_recurring_revenue(account, plan="$plan", month="$month")
                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/analytics/analytics/metrics/mrr.py", line 31, in monthly_recurring_revenue
    arpa = average_revenue_per_account(revenue_cents, active_subscriptions)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/analytics/analytics/metrics/mrr.py", line 46, in average_revenue_per_account
    raise ZeroDivisionError("Division by zero in MRR calculation") from error
ZeroDivisionError: $message
""",
)

#: Scenario bad-template: one template in one region.
TEMPLATE: Final = Fault(
    key="template",
    queues=(EMAIL,),
    error_type="Error",
    message='Missing helper: "vatNotice" in template $template for region $region',
    weight=0,
    trace="""\
Error: $message
    at Object.<anonymous> (/srv/campaigns/node_modules/handlebars/dist/cjs/handlebars/helpers/helper-missing.js:19:13)
    at Object.wrapper (/srv/campaigns/node_modules/handlebars/dist/cjs/handlebars/internal/wrapHelper.js:15:19)
    at Object.main (eval at createFunctionContext (/srv/campaigns/node_modules/handlebars/dist/cjs/handlebars/compiler/javascript-compiler.js:262:23), <anonymous>:14:202)
    at main (/srv/campaigns/node_modules/handlebars/dist/cjs/handlebars/runtime.js:208:32)
    at ret (/srv/campaigns/node_modules/handlebars/dist/cjs/handlebars/runtime.js:212:12)
    at renderTemplate (/srv/campaigns/dist/render/index.js:63:20)
    at async sendCampaignEmail (/srv/campaigns/dist/jobs/send-campaign-email.js:34:18)
    at async JobRunner.run (/srv/campaigns/dist/runner.js:112:18)
""",
)

FAULTS: Final = (
    _SMTP_REFUSED,
    _READ_TIMEOUT,
    _RATE_LIMIT,
    _MERGE_FIELD,
    _STATEMENT_TIMEOUT,
    _SLOW_DOWN,
    _SOCKET_HANG_UP,
    _DEADLOCK,
    _RATES_MISSING,
    _IMAP_ABORT,
    _CONNECT_TIMEOUT,
    RENDERING,
    MRR,
    TEMPLATE,
)

_BY_QUEUE: Final = {
    queue: (faults, [f.weight for f in faults])
    for queue in (HIGH, EMAIL, LOW, ANALYTICS, WARMUP)
    for faults in [[f for f in FAULTS if queue in f.queues and f.weight]]
}
