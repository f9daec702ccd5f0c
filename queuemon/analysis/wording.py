"""The words by which `normalise` tells a meaning from a parameter, in the languages that error messages are written in.

Alternatives of regular expressions, longest first where one begins with another.
"""

from __future__ import annotations

from typing import Final


def _either(words: str) -> str:
    """The words of a text, separated by spaces, as alternatives; `_` stands for a space."""
    return "|".join(sorted((w.replace("_", " ") for w in words.split()), key=len, reverse=True))


def _words(words: str) -> tuple[str, ...]:
    """The words of a text; `_` stands for a space."""
    return tuple(w.replace("_", " ") for w in words.split())


#: How the words begin that follow a status code of HTTP or SMTP.
REASONS: Final = _either(
    "Client_Error Server_Error Bad_Gateway Bad_Request Unauthorized Payment_Required Forbidden Not_Found Not_Acceptable Not_Implemented"
    " Method_Not Proxy_Auth Request_Timeout Request_Entity Request_Header Conflict Gone Length_Required Precondition Payload_Too Content_Too"
    " URI_Too Unsupported_Media Range_Not Expectation_Failed Misdirected Unprocessable Locked Failed_Dependency Too_Many Too_Early Upgrade_Required"
    " Unavailable_For Internal_Server Internal_Error Service_Unavailable Service_Temporarily Service_not_available Gateway_Time HTTP_Version Insufficient_Storage Loop_Detected"
    " Network_Auth Moved_Permanently Found:_ See_Other Temporary_Redirect Permanent_Redirect GET_http POST_http PUT_http"
    " Mailbox_unavailable Mailbox_full User_unknown No_such_user Relay_access Relaying_denied Recipient_address Sender_address Message_rejected"
    " Greylisted Authentication_failed Authentication_required Transaction_failed Requested_action Requested_mail"
)
#: Words before a status code, and before the number of an error, in lower case.
STATUS: Final = _words(
    "status statuscode status_code status-code http_status httpstatus response_code responded_with returned got answered answered_with response"
    " replied server_said reply_code responded said received statut statut_http http-status http-fehler fehler erreur error código"
    " código_de_estado estado ステータス ステータスコード http http/1.0 http/1.1 http/2 http/2.0 http/3 code codes"
)
CODE: Final = _words(
    "errno os_error oserror winerror error_code errorcode error_no error_number exit_code exit_status exitcode exited_with exit exited_with_code"
    " exited_with_status exit_value return_code returncode rc result_code reason_code native_error signal sqlstate sqlcode hresult status_code"
    " grpc_status fehlercode fehler-nr. fehlernummer exit-code code_d'erreur code_erreur code_de_sortie código_de_error código_de_salida"
    " エラーコード 終了コード エラー番号 err_code vendor_code reply_code api_code last_error statuscode msg mysql_error error (code {code [code ,_code"
    " '_code"
)
#: Prefixes of error numbers.
PREFIXES: Final = _either(
    "ORA TNS PLS SP2 DPY DPI IMP E TS AADSTS CS SQL PGRST PG XX HRESULT LNK NU MSB WinError DB JDBC HHH CVE ERR NJS P TF IO HV SF WSREP"
)
#: Names that end in a number and are no id, in lower case.
NUMBERED: Final = _words(
    "utf-8 utf8 utf-16 utf-32 utf16 utf8mb4 latin-1 latin1 iso-8859-1 iso-8859-15 iso8859-1 cp1252 cp1251 windows-1252 ipv4 ipv6 http/1.0"
    " http/1.1 http/2 http2 http/3 h2 oauth2 oauth1 tlsv1 tlsv1.0 tlsv1.1 tlsv1.2 tlsv1.3 sslv3 ssl3 sha1 sha256 sha-256 sha512 sha384 md5"
    " rs256 hs256 es256 base64 base32 base16 int2 int4 int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 float4 float8 s3 ec2"
    " h264 h265 mp3 mp4 x509 x.509 x86_64 amd64 arm64 p12 pkcs7 pkcs8 pkcs12 k8s ed25519 log4j id3 oauth2.0 saml2 rfc822 rfc2822 rfc5321"
    " rfc5322 rfc3339 iso8601 iso-8601 py3 python3 sqlite3 neo4j l10n i18n"
)

#: Words after a number that make it a quantity.
UNITS: Final = _either(
    "ms msec msecs millis milliseconds millisecond µs us microseconds microsecond ns nanoseconds s sec secs second seconds m min mins minute"
    " minutes h hr hrs hour hours d day days w week weeks month months year years Sekunde Sekunden Minute Minuten Stunde Stunden Tag Tage Tagen"
    " Millisekunden seconde secondes heure heures jour jours segundo segundos minuto minutos hora horas día días milisegundos 秒 分 時間 日 ミリ秒 分間 秒間"
    " B byte bytes Byte Bytes octets KB MB GB TB kB kb KiB MiB GiB TiB Mi Gi Ki bit bits px pt dpi rpm qps rps Mbps Kbps kbit/s バイト"
    " x"
)
CURRENCIES: Final = _either("EUR USD GBP CHF JPY CAD AUD SEK NOK DKK PLN CZK BRL MXN INR CNY KRW 円 € ¥ £") + r"|\$"
MONTHS: Final = _either(
    "January February March April May June July August September October November December Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
    " Januar Februar März Mai Juni Juli Oktober Dezember Okt Dez janvier février mars avril mai juin juillet août septembre octobre novembre"
    " décembre enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"
)
WEEKDAYS: Final = _either(
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Mon Tue Wed Thu Fri Sat Sun Montag Dienstag Mittwoch Donnerstag Freitag Samstag"
    " Sonntag lundi mardi mercredi jeudi vendredi samedi dimanche lunes martes miércoles jueves viernes sábado domingo"
)

#: Keys whose value tells the cause, in JSON and in key=value.
TELLING: Final = (
    r"(?:error|err|status|reason|fault|exit|return|result|response|sql)?[_-]?(?:code|Code)|errno|errorCode|statusCode|status|sqlstate|error"
    r"|errors|message|Message|msg|reason|Reason|type|title|detail|description|error_description|error_type|exception|state|syscall"
)
#: Those of them that hold a sentence.
SENTENCES: Final = frozenset(
    {"error", "message", "msg", "reason", "title", "detail", "description", "error_description"}
)

#: Words before the quoted name of something in the program.
NAMED_BEFORE: Final = _either(
    "column columns relation table constraint index key keys attribute attributes attr property properties prop field fields argument"
    " arguments arg parameter parameters param keyword module package import_name module_named modules_named invoke because calling function method procedure operator class type object"
    " variable identifier symbol helper filter partial macro reading setting view trigger sequence schema extension codec encoding enum"
    " interface collection environment_variable env_var option directive element header claim scope permission required missing_required"
    " Spalte Relation Tabelle Attribut Schlüssel Feld Pflichtfeld Funktion Methode Modul Eigenschaft Variable Parameter Constraint"
    " Unique-Constraint Fremdschlüssel-Constraint Check-Constraint Not-Null-Constraint Klasse Typ Argument"
    " colonne relation contrainte attribut clé champ fonction méthode propriété paramètre classe obligatoire"
    " columna relación tabla restricción atributo clave llave campo función método módulo propiedad parámetro variable clase obligatorio"
)
NAMED_BEFORE_CJK: Final = "列|リレーション|テーブル|制約|属性|フィールド|カラム|プロパティ|項目|関数|変数|一意性制約|の"
#: What follows such a name.
NAMED_AFTER: Final = (
    r"objects? (?:has|is|does|of|cannot)|has no attribute|is not defined|is undefined|is null|is not a function|is (?:a )?required|is missing"
    r"|is not a property|is not a constructor|(?:field|column|property|attribute|argument|parameter|constraint|table|relation|key)\b"
    r"|not in index|は定義されて|列|テーブル|フィールド|属性|カラム|キー|プロパティ|の列|項目|制約|が未定義|は必須"
    r"|ist nicht definiert|fehlt\b|ist erforderlich|n'est pas défini|est requis|est obligatoire|no está definid|es obligatori|must (?:be|not)"
)
#: Names of types: what was wrong is that it was of this one.
TYPES: Final = frozenset(
    _words(
        "int str float bool bytes list dict tuple set frozenset NoneType None null nil undefined string number object boolean array function Decimal"
        " datetime date integer Buffer Symbol bigint symbol true false NaN"
    )
)

#: Things that carry a name of their own, which is a parameter.
THINGS: Final = frozenset(
    w.lower()
    for w in _words(
        "template region bucket queue campaign plan tenant host hostname server cluster node worker topic stream channel zone pod container namespace"
        " branch environment user username account customer client job task order invoice file image device domain mailbox folder"
        " flag project workspace organisation organization org team group feed segment list shop store merchant vendor supplier product item"
        "  report dataset partition shard replica broker consumer session city country recipient sender subject audience"
        " Vorlage Region Warteschlange Kunde Kunden Benutzer Konto Datei Bestellung Rechnung Mandant Mandanten Kampagne Empfänger Postfach"
        " modèle client utilisateur compte commande fichier région campagne file_d'attente destinataire facture"
        " plantilla cliente usuario cuenta pedido archivo región campaña cola factura destinatario bucket export"
    )
)
#: Those of them whose name may be any word before a verb: "user alice has no mailbox".
ACTORS: Final = frozenset(
    _words(
        "user username tenant queue host hostname server region campaign bucket worker node topic plan merchant vendor"
    )
)
VERBS: Final = _either(
    "not is was has had does doesn't isn't hasn't cannot can't could failed exceeded already reached returned rejected refused did"
    " ist wurde hat existiert est n'existe a no ha está existe"
)
#: Words that may stand behind a thing and are not its name.
NOT_NAMES: Final = _either(
    "not is was are were has had have does do did can cannot could should would will may might must failed fails failure error errors"
    " missing found exists exist expired invalid unknown unavailable unreachable disabled locked suspended blocked denied rejected full empty"
    " closed open timeout timed down up already again and or with without for from in on at to of by as after before while when because"
    " name id key size limit quota type status state data info record records details entry number count address addresses code token path"
    " descriptor handle system format content contents upload download processing configuration config connection request response"
    " input output file files list queue group settings permissions access login password session profile balance lookup import export"
    " email e-mail mail phone role price total date currency country language locale depth mailbox account payload body header engine field title"
    " priority stock agent pool rate limits"
    " refused returned responded replied rejects over too more than per exceeded overloaded shutdown restarted lost dropped ended gone"
    " read-only readonly non-existent not-found time-out out-of-range self-signed re-queued over-quota side-effect opt-out opted-out"
    " nicht ist wurde hat existiert fehlt gesperrt ungültig unbekannt pas est introuvable no es está existe inválido bloqueada bloqueado"
)
SHORT_WORDS: Final = frozenset(
    _words("is not in of on at to by as or no was has for and are the est pas no es de la le")
)

#: Endings of names of hosts; the weak ones are also words of programs.
TOP: Final = _either(
    "com net org de fr es jp uk ch nl pl br ca eu edu gov internal local localdomain example invalid lan corp intra intranet io cn ru kr se be cz"
    " biz cluster.local test localhost co.uk co.jp com.br com.mx com.au arpa onion mx"
).replace(".", r"\.")
WEAK_TOP: Final = _either(
    "dev app cloud info me ai co svc site online tech store shop it at us in tv name pro xyz host"
)
#: Endings of names of files.
EXTENSIONS: Final = _either(
    "csv tsv json jsonl ndjson pdf png jpg jpeg gif webp svg ico bmp tiff heic xlsx xls docx doc pptx txt zip gz tgz tar bz2 xz 7z rar xml html htm"
    " yaml yml toml ini conf log eml msg ics mp3 mp4 mov avi wav mkv parquet avro orc tmp bak sql db sqlite hbs j2 jinja jinja2 ejs mjml pug liquid"
    " tpl p12 pem crt key cer lock pid sock py js ts jsx tsx mjs cjs rb php java go rs"
)
