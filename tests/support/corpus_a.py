"""Errors as jobs really leave them, in families that an operator would fix by one change: what signatures must find.

Each family is a type, a message and perhaps a trace with `$parameters`; `texts()` draws variants by seed. Families whose
names share what stands before the slash are near misses: alike, but with another fix.
"""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

Draw = Callable[[random.Random], str]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One cause."""

    name: str
    error_type: str | None
    message: str
    trace: str | None = None


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One failed attempt and the family it belongs to."""

    family: str
    error_type: str | None
    message: str
    stack_trace: str | None


def _pick(*words: str) -> Draw:
    return lambda rng: rng.choice(words)


def _email(rng: random.Random) -> str:
    name = rng.choice(("anna.schmidt", "j.doe", "m_rossi", "info", "billing+eu", "lucia", "takeshi.w", "o.brien"))
    return f"{name}{rng.choice(('', str(rng.randrange(99))))}@{rng.choice(('example.com', 'mail.example.org', 'gmx.de', 'firma.co.uk', 'acme.io'))}"


def _host(rng: random.Random) -> str:
    return rng.choice(("db-1.internal", "smtp.example.net", "10.0.3.17", "api.vendor.example.com", "redis-0.redis.svc.cluster.local",
                       "203.0.113." + str(rng.randrange(255)), "mx2.firma.de"))  # fmt: skip


def _date(rng: random.Random) -> str:
    y, m, d = rng.randrange(2019, 2027), rng.randrange(1, 13), rng.randrange(1, 29)
    hh, mm, ss = rng.randrange(24), rng.randrange(60), rng.randrange(60)
    return rng.choice((f"{y}-{m:02}-{d:02}", f"{y}-{m:02}-{d:02}T{hh:02}:{mm:02}:{ss:02}Z", f"{y}-{m:02}-{d:02} {hh:02}:{mm:02}:{ss:02}.{rng.randrange(10**6):06}+00:00",
                       f"{d:02}.{m:02}.{y}", f"{m}/{d}/{y}"))  # fmt: skip


def _token(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=rng.choice((8, 12, 24)))) + str(
        rng.randrange(10)
    )


PARAMETERS: Final[Mapping[str, Draw]] = {
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "int": lambda rng: str(rng.randrange(10 ** rng.randrange(1, 9))),
    "line": lambda rng: str(rng.randrange(1, 900)),
    "float": lambda rng: f"{rng.random() * 10 ** rng.randrange(5):.{rng.randrange(1, 5)}f}",
    "hex": lambda rng: f"0x{rng.getrandbits(44):012x}",
    "email": _email,
    "host": _host,
    "port": lambda rng: str(rng.randrange(1024, 65536)),
    "ip": lambda rng: ".".join(str(rng.randrange(1, 255)) for _ in range(4)),
    "ip6": lambda rng: ":".join(f"{rng.randrange(1, 65536):x}" for _ in range(8)),
    "url": lambda rng: f"https://{rng.choice(('api', 'hooks', 'cdn'))}.vendor.example.com/v{rng.randrange(1, 4)}/{rng.choice(('orders', 'customers', 'events'))}/{rng.randrange(10**6)}{rng.choice(('', '?page=3&limit=50', '/items'))}",
    "date": _date,
    "duration": lambda rng: rng.choice((f"{rng.randrange(1, 90)} seconds", f"{rng.randrange(1, 90_000)}ms", f"{rng.random() * 60:.2f}s", f"{rng.randrange(2, 9)}m{rng.randrange(60)}s", f"{rng.randrange(2, 50)} min")),
    "size": lambda rng: rng.choice((f"{rng.randrange(10**9)} bytes", f"{rng.randrange(2, 900)} MB", f"{rng.random() * 20:.1f} GiB", f"{rng.randrange(900)}KB")),
    "money": lambda rng: rng.choice((f"€{rng.random() * 900:.2f}", f"{rng.randrange(10, 9000)} EUR", f"$${rng.randrange(1, 900)}.99".replace("$$", "$"), f"USD {rng.randrange(5000)}.00")),
    "path": lambda rng: f"/{rng.choice(('var/lib/app', 'srv/exports', 'tmp', 'mnt/data/tenant-7'))}/{rng.choice(('report', 'avatar', 'Übersicht', 'export'))}-{rng.randrange(9999)}.{rng.choice(('csv', 'png', 'pdf'))}",
    "file": lambda rng: f"{rng.choice(('invoice', 'kunden', 'list', 'photo'))}{rng.choice(('', '_final', '-' + str(rng.randrange(99))))}.{rng.choice(('csv', 'xlsx', 'pdf', 'jpg'))}",
    "text": lambda rng: rng.choice(("Hello Anna", "12,50", "N/A", "Ünïcödé", "foo bar baz", "-", "abc", "Jean-Luc", "O'Brien", "東京都", "1.2.3", "yes please")),
    "name": _pick("Anna Schmidt", "Jürgen Müller", "José García", "Marie Dupont", "John O'Neill", "田中太郎"),
    "slug": _pick("spring-sale", "welcome-series", "password-reset", "order-confirmation", "vat-notice-eu", "winback-90"),
    "region": _pick("eu-west", "us-east", "ap-south", "eu-central-1", "us-west-2"),
    "token": _token,
    "id": lambda rng: rng.choice((f"cus_{rng.getrandbits(60):x}9", f"ORD-{rng.randrange(10**6)}", f"job-{rng.getrandbits(32):08x}1", f"#{rng.randrange(10**6)}", str(rng.randrange(10**9)))),
    "version": lambda rng: rng.choice(("/srv/app", "/opt/releases/20261103", "/home/deploy/app/current", "/app")),
    "py": _pick("/usr/local/lib/python3.12", "/usr/lib/python3.11", "/srv/venv/lib/python3.13"),
    "node": _pick("/app", "/srv/mailer", "/opt/releases/a1b2c3d4"),
    "list": lambda rng: "[" + ", ".join(str(rng.randrange(10**5)) for _ in range(rng.randrange(1, 9))) + "]",
}  # fmt: skip


def _python(*frames: str, last: str, package: str = "") -> str:
    own = "".join(
        f'  File "$version/{f.partition(":")[0]}", line $line, in {f.partition(":")[2]}\n    call(value)\n'
        for f in frames
    )
    foreign = f'  File "$py/site-packages/{package}", line $line, in execute\n    raise error\n' if package else ""
    return f"Traceback (most recent call last):\n{own}{foreign}{last}\n"


def _node(*frames: str, first: str) -> str:
    own = "".join(
        f"    at async {f.partition(':')[2]} ($node/dist/{f.partition(':')[0]}:$line:$line)\n" for f in frames
    )
    return f"{first}\n    at Socket.emit (node:events:$line:$line)\n    at request ($node/node_modules/axios/lib/core.js:$line:12)\n{own}"


def _f(name: str, error_type: str | None, message: str, trace: str | None = None) -> Family:
    return Family(name=name, error_type=error_type, message=message, trace=trace)


_WORKER: Final = "app/worker.py:run"

FAMILIES: Final = (
    # ------------------------------------------------------------------------------------------------ Python
    _f("key-error/customer", "KeyError", "'customer_id'", _python(_WORKER, "app/orders.py:load", last="KeyError: 'customer_id'")),
    _f("key-error/currency", "KeyError", "'currency'", _python(_WORKER, "app/orders.py:load", last="KeyError: 'currency'")),
    _f("key-error/rate", "KeyError", "'$date'", _python(_WORKER, "app/rates.py:rate_of", last="KeyError: '...'")),
    _f("attribute/total", "AttributeError", "'NoneType' object has no attribute 'total'"),
    _f("attribute/lines", "AttributeError", "'NoneType' object has no attribute 'lines'"),
    _f("attribute/order", "AttributeError", "'Order' object has no attribute 'total'"),
    _f("int", "ValueError", "invalid literal for int() with base 10: '$text'", _python(_WORKER, "app/imports.py:row", last="ValueError: invalid")),
    _f("float", "ValueError", "could not convert string to float: '$text'"),
    _f("strptime", "ValueError", "time data '$date' does not match format '%Y-%m-%dT%H:%M'"),
    _f("zero", "ZeroDivisionError", "division by zero", _python(_WORKER, "app/metrics/mrr.py:average", last="ZeroDivisionError: division by zero")),
    _f("zero/churn", "ZeroDivisionError", "division by zero", _python(_WORKER, "app/metrics/churn.py:rate", last="ZeroDivisionError: division by zero")),
    _f("decode", "UnicodeDecodeError", "'utf-8' codec can't decode byte $hex in position $int: invalid start byte"),
    _f("file", "FileNotFoundError", "[Errno 2] No such file or directory: '$path'"),
    _f("file/denied", "PermissionError", "[Errno 13] Permission denied: '$path'"),
    _f("disk", "OSError", "[Errno 28] No space left on device: '$path'"),
    _f("memory", "MemoryError", "Unable to allocate $size for an array with shape ($int, $int) and data type float64"),
    _f("module", "ModuleNotFoundError", "No module named 'weasyprint'"),
    _f("module/other", "ModuleNotFoundError", "No module named 'boto3'"),
    _f("killed", "subprocess.CalledProcessError", "Command '['pdftotext', '$path', '-']' returned non-zero exit status 137."),
    _f("killed/other", "subprocess.CalledProcessError", "Command '['pdftotext', '$path', '-']' returned non-zero exit status 1."),
    _f("refused", "requests.exceptions.ConnectionError",
       "HTTPSConnectionPool(host='$host', port=$port): Max retries exceeded with url: /v1/users/$int (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at $hex>: Failed to establish a new connection: [Errno 111] Connection refused'))"),
    _f("refused/dns", "requests.exceptions.ConnectionError",
       "HTTPSConnectionPool(host='$host', port=$port): Max retries exceeded with url: /v1/users/$int (Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at $hex>: Failed to establish a new connection: [Errno -2] Name or service not known'))"),
    _f("read-timeout", "requests.exceptions.ReadTimeout", "HTTPSConnectionPool(host='$host', port=443): Read timed out. (read timeout=$float)"),
    _f("http-404", "requests.exceptions.HTTPError", "404 Client Error: Not Found for url: $url"),
    _f("http-429", "requests.exceptions.HTTPError", "429 Client Error: Too Many Requests for url: $url"),
    _f("http-503", "requests.exceptions.HTTPError", "503 Server Error: Service Unavailable for url: $url"),
    _f("pydantic/missing", "pydantic_core.ValidationError",
       "1 validation error for OrderPayload\ncustomer_id\n  Field required [type=missing, input_value={'id': $int, 'name': '$name'}, input_type=dict]\n    For further information visit https://errors.pydantic.dev/2.9/v/missing"),
    _f("pydantic/type", "pydantic_core.ValidationError",
       "1 validation error for OrderPayload\nquantity\n  Input should be a valid integer, unable to parse string as an integer [type=int_parsing, input_value='$text', input_type=str]\n    For further information visit https://errors.pydantic.dev/2.9/v/int_parsing"),
    _f("slow-down", "botocore.exceptions.ClientError", "An error occurred (SlowDown) when calling the PutObject operation (reached max retries: $int): Please reduce your request rate."),
    _f("no-such-key", "botocore.exceptions.ClientError", "An error occurred (NoSuchKey) when calling the GetObject operation: The specified key does not exist. Key: $path"),
    _f("chained/timeout", "ExportFailed", "export of account $int failed",
       "Traceback (most recent call last):\n  File \"$version/app/s3.py\", line $line, in put\n    x()\nTimeoutError: timed out after $duration\n\nThe above exception was the direct cause of the following exception:\n\n"
       + _python(_WORKER, "app/export.py:run", last="ExportFailed: export failed")),
    _f("chained/rights", "ExportFailed", "export of account $int failed",
       "Traceback (most recent call last):\n  File \"$version/app/s3.py\", line $line, in put\n    x()\nPermissionError: Access Denied\n\nThe above exception was the direct cause of the following exception:\n\n"
       + _python(_WORKER, "app/export.py:run", last="ExportFailed: export failed")),
    _f("template/rate", "jinja2.exceptions.UndefinedError", "'vat_rate' is undefined (template $slug, locale de-DE)"),
    _f("template/name", "jinja2.exceptions.UndefinedError", "'first_name' is undefined (template $slug, locale de-DE)"),
    # -------------------------------------------------------------------------------------------------- Node
    _f("reading/first", "TypeError", "Cannot read properties of undefined (reading 'firstName')", _node("render.js:mergeFields", first="TypeError: Cannot")),
    _f("reading/last", "TypeError", "Cannot read properties of undefined (reading 'address')", _node("render.js:mergeFields", first="TypeError: Cannot")),
    _f("not-a-function", "TypeError", "items.map is not a function", _node("jobs/sync.js:syncItems", first="TypeError: items.map")),
    _f("econnrefused", "Error", "connect ECONNREFUSED $ip:$port", _node("store.js:Store.open", first="Error: connect")),
    _f("enotfound", "Error", "getaddrinfo ENOTFOUND $host", _node("store.js:Store.open", first="Error: getaddrinfo")),
    _f("etimedout", "Error", "connect ETIMEDOUT $ip:$port", _node("store.js:Store.open", first="Error: connect")),
    _f("axios-500", "AxiosError", "Request failed with status code 500", _node("api.js:Api.post", first="AxiosError: Request failed")),
    _f("axios-401", "AxiosError", "Request failed with status code 401", _node("api.js:Api.post", first="AxiosError: Request failed")),
    _f("json", "SyntaxError", "Unexpected token < in JSON at position $int"),
    _f("helper", "Error", 'Missing helper: "vatNotice" in template $slug for region $region'),
    _f("heap", "Error", "Worker terminated due to reaching memory limit: JS heap out of memory ($size used)"),
    _f("stripe/declined", "StripeCardError", 'Your card was declined. {"code":"card_declined","request_id":"req_$token","charge":"ch_$token"}'),
    _f("stripe/expired", "StripeCardError", 'Your card was declined. {"code":"expired_card","request_id":"req_$token","charge":"ch_$token"}'),
    _f("mongo", "MongoServerError", 'E11000 duplicate key error collection: shop.users index: email_1 dup key: { email: "$email" }'),
    # --------------------------------------------------------------------------------------------------- Java
    _f("java/npe", "java.lang.NullPointerException", 'Cannot invoke "com.acme.Order.getTotal()" because "order" is null',
       "java.lang.NullPointerException: Cannot invoke\n\tat com.acme.jobs.Invoice.run(Invoice.java:$line)\n\tat java.base/java.lang.Thread.run(Thread.java:$line)\n"),
    _f("java/pool", "java.sql.SQLTransientConnectionException", "HikariPool-1 - Connection is not available, request timed out after $duration (total=$int, active=$int, idle=0, waiting=$int)"),
    # ---------------------------------------------------------------------------------------------------- SQL
    _f("unique/email", "psycopg.errors.UniqueViolation", 'duplicate key value violates unique constraint "users_email_key"\nDETAIL:  Key (email)=($email) already exists.'),
    _f("unique/slug", "psycopg.errors.UniqueViolation", 'duplicate key value violates unique constraint "shops_slug_key"\nDETAIL:  Key (slug)=($slug) already exists.'),
    _f("foreign", "psycopg.errors.ForeignKeyViolation", 'insert or update on table "orders" violates foreign key constraint "orders_customer_id_fkey"\nDETAIL:  Key (customer_id)=($int) is not present in table "customers".'),
    _f("not-null/total", "psycopg.errors.NotNullViolation", 'null value in column "total" of relation "orders" violates not-null constraint\nDETAIL:  Failing row contains ($int, null, $date, $text).'),
    _f("not-null/city", "psycopg.errors.NotNullViolation", 'null value in column "city" of relation "orders" violates not-null constraint\nDETAIL:  Failing row contains ($int, null, $date, $text).'),
    _f("column/a", "psycopg.errors.UndefinedColumn", 'column "discount_code" does not exist\nLINE 1: SELECT discount_code FROM orders WHERE id = $int\n               ^'),
    _f("column/b", "psycopg.errors.UndefinedColumn", 'column "tax_code" does not exist\nLINE 1: SELECT tax_code FROM orders WHERE id = $int\n               ^'),
    _f("deadlock", "psycopg.errors.DeadlockDetected", "deadlock detected\nDETAIL:  Process $int waits for ShareLock on transaction $int; blocked by process $int.\nProcess $int waits for ShareLock on transaction $int; blocked by process $int.\nHINT:  See server log for query details."),
    _f("serialize", "psycopg.errors.SerializationFailure", "could not serialize access due to concurrent update"),
    _f("canceled", "psycopg.errors.QueryCanceled", "canceling statement due to statement timeout (export of $id for account $int)"),
    _f("uuid-input", "psycopg.errors.InvalidTextRepresentation", 'invalid input syntax for type uuid: "$text"'),
    _f("sqlalchemy", "sqlalchemy.exc.IntegrityError",
       "(psycopg.errors.UniqueViolation) duplicate key value violates unique constraint \"events_pkey\"\n[SQL: INSERT INTO events (id, at) VALUES (%(id)s, %(at)s)]\n[parameters: {'id': '$uuid', 'at': '$date'}]\n(Background on this error at: https://sqlalche.me/e/20/gkpj)"),
    _f("mysql/deadlock", "pymysql.err.OperationalError", "(1213, 'Deadlock found when trying to get lock; try restarting transaction')"),
    _f("mysql/gone", "pymysql.err.OperationalError", "(2006, 'MySQL server has gone away ($float)')"),
    _f("mysql/duplicate", "pymysql.err.IntegrityError", "(1062, \"Duplicate entry '$email' for key 'users.email'\")"),
    _f("oracle", "cx_Oracle.DatabaseError", "ORA-12170: TNS:Connect timeout occurred after $duration"),
    _f("oracle/listener", "cx_Oracle.DatabaseError", "ORA-12541: TNS:no listener at $host"),
    _f("connection", "psycopg.OperationalError", 'connection to server at "$ip", port $port failed: Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?'),
    # --------------------------------------------------------------------------------------------------- SMTP
    _f("smtp/unknown", "smtplib.SMTPRecipientsRefused", "{'$email': (550, b'5.1.1 <$email>: Recipient address rejected: User unknown in virtual mailbox table')}"),
    _f("smtp/greylist", "smtplib.SMTPRecipientsRefused", "{'$email': (451, b'4.7.1 Greylisting in action, please come back in $duration')}"),
    _f("smtp/quota", "SMTPError", "452 4.2.2 The email account that you tried to reach is over quota. Please direct the recipient to $url $token - gsmtp"),
    _f("smtp/spam", "SMTPError", "550 5.7.1 Message rejected as spam by Content Filtering for $email ($token)"),
    _f("smtp/relay", "SMTPError", "550 5.7.1 Unable to relay for $email"),
    _f("smtp/deferred", "SMTPError", "421 4.7.0 [TSS04] Messages from $ip temporarily deferred due to unexpected volume or user complaints; see $url"),
    _f("smtp/auth", "smtplib.SMTPAuthenticationError", "(535, b'5.7.8 Error: authentication failed: UGFzc3dvcmQ6')"),
    # --------------------------------------------------------------------------------------------------- HTTP
    _f("plain/502", "Error", "POST $url: HTTP 502 Bad Gateway after $duration"),
    _f("plain/504", "Error", "POST $url: HTTP 504 Gateway Timeout after $duration"),
    _f("rate-limit", "ResponseError", "Too Many Requests: campaign $id exceeded $int messages/min, retry after $duration"),
    _f("webhook", "WebhookError", "webhook $uuid answered 410 Gone: endpoint $url was disabled on $date"),
    _f("too-large", "UploadError", "file $file of $size exceeds the limit of $size"),
    _f("payment", "PaymentError", "charge of $money for customer $id was refused by the issuer (attempt $int of 3)"),
    _f("lease", "LeaseLost", "worker $id lost job $uuid after $duration without a heartbeat"),
    _f("ids", "BatchError", "items $list could not be indexed"),
    # ---------------------------------------------------------------------------------------------- languages
    _f("de/connection", "Verbindungsfehler", "Verbindung zum Server „$host“ auf Port $port fehlgeschlagen: Zeitüberschreitung nach $duration"),
    _f("de/customer", "FachlicherFehler", "Der Kunde „$name“ (Nr. $int) ist seit dem $date gesperrt"),
    _f("de/column/a", "psycopg.errors.UndefinedColumn", "Spalte »rabatt« existiert nicht\nZEILE 1: SELECT rabatt FROM auftrag WHERE id = $int"),
    _f("de/column/b", "psycopg.errors.UndefinedColumn", "Spalte »steuersatz« existiert nicht\nZEILE 1: SELECT steuersatz FROM auftrag WHERE id = $int"),
    _f("fr/file", "ErreurFichier", "Le fichier « $path » est introuvable ou illisible"),
    _f("fr/limit", "ErreurQuota", "L'utilisateur n° $int a dépassé la limite de $size le $date"),
    _f("es/payment", "ErrorDePago", "El pago de $money del pedido $id fue rechazado por el banco"),
    _f("es/stock", "ErrorDeStock", "No hay existencias suficientes: se pidieron $int unidades y quedan $int"),
    _f("ja/timeout", "TimeoutError", "サーバー $host への接続が $duration 後にタイムアウトしました"),
    _f("ja/table", "DatabaseError", "テーブル「orders」に行を追加できません: キー「$text」は既に存在します"),
    _f("ja/count", "ValidationError", "ジョブ$intの件数が上限$intを超えました"),
)  # fmt: skip


def texts(seed: int = 1, variants: int = 24) -> Iterator[Labelled]:
    """So many variants of every family; the same seed, the same texts."""
    rng = random.Random(seed)
    for family in FAMILIES:
        for _ in range(variants):
            yield Labelled(
                family=family.name,
                error_type=family.error_type,
                message=_filled(family.message, rng),
                stack_trace=_filled(family.trace, rng) if family.trace else None,
            )


def _filled(template: str, rng: random.Random) -> str:
    """The template with every parameter drawn anew where it stands."""
    parts = template.split("$")
    made = [parts[0]]
    for part in parts[1:]:
        name = next((n for n in _NAMES if part.startswith(n)), "")
        made.append(PARAMETERS[name](rng) + part[len(name) :])
    return "".join(made)


_NAMES: Final = sorted(PARAMETERS, key=len, reverse=True)
