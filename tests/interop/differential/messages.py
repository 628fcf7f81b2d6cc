"""Kafka's messages, encoded and decoded by the schemas in the jar of its clients: every API, every version.

Values are dictionaries with the field names of the schemas. In a request, absent fields have their defaults.
"""

import json
import struct
import uuid
import zipfile

NUMBERS = {
    "int8": ">b",
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "float64": ">d",
}


def within(versions, version):
    """Returns true if a version is in a range of a schema, such as `2+`, `0-3`, `1` or `none`."""
    if not versions or versions == "none":
        return False
    first, _, last = versions.rstrip("+").partition("-")
    highest = 32767 if versions.endswith("+") else int(last or first)
    return int(first) <= version <= highest


class Schemas:
    """All messages of a release of Kafka."""

    def __init__(self, jar):
        self.requests, self.responses = {}, {}
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if name.startswith("common/message/") and name.endswith(("Request.json", "Response.json")):
                    lines = archive.read(name).decode().splitlines()
                    schema = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
                    if schema["validVersions"] == "none":
                        continue  # An API that has been removed.
                    if schema["type"] == "request":
                        self.requests[schema["name"].removesuffix("Request")] = Message(schema)
                    elif schema["type"] == "response":
                        self.responses[schema["name"].removesuffix("Response")] = Message(schema)
        self.names = {message.api_key: name for name, message in self.requests.items()}

    def request(self, api, version, correlation_id, body):
        """Returns a request without its size prefix."""
        message = self.requests[api]
        header = struct.pack(">hhi", message.api_key, version, correlation_id) + struct.pack(">h", 4) + b"diff"
        flexible = message.is_flexible(version)
        return header + (b"\0" if flexible else b"") + message.encode(body, version)

    def response(self, api, version, content):
        """Returns the body of a response."""
        reader = Reader(content)
        reader.number("int32")
        message = self.responses[api]
        # ApiVersions has the first header for ever: a client does not know yet what the broker understands.
        if message.is_flexible(version) and api != "ApiVersions":
            reader.tags()
        body = message.decode(reader, version)
        if reader.at != len(content):
            raise ValueError(f"{api} {version}: {len(content) - reader.at} bytes are left")
        return body


class Message:
    def __init__(self, schema):
        self.api_key = schema.get("apiKey")
        self.fields = schema["fields"]
        self.flexible = schema.get("flexibleVersions", "none")
        self.structs = {each["name"]: each["fields"] for each in schema.get("commonStructs", [])}
        self.collect(self.fields)

    def collect(self, fields):
        for field in fields:
            if "fields" in field:
                self.structs[field["type"].removeprefix("[]")] = field["fields"]
                self.collect(field["fields"])

    def is_flexible(self, version):
        return within(self.flexible, version)

    def encode(self, body, version):
        writer = Writer(self, version)
        writer.struct(self.fields, body, "")
        return bytes(writer.out)

    def decode(self, reader, version):
        return reader.struct(self, self.fields, version)


def default_of(field, structs, version):
    given = field.get("default")
    kind = field["type"]
    if given == "null" or (given is None and kind in structs and within(field.get("nullableVersions"), version)):
        return None
    if kind.startswith("[]"):
        return []
    if kind in NUMBERS:
        return float(given or 0) if kind == "float64" else int(str(given or 0), 0)
    if kind == "bool":
        return str(given).lower() == "true"
    if kind == "string":
        return given or ""
    if kind == "uuid":
        return uuid.UUID(int=0)
    return {} if kind in structs else b""


class Writer:
    def __init__(self, message, version):
        self.message, self.version = message, version
        self.flexible = message.is_flexible(version)
        self.out = bytearray()

    def struct(self, fields, value, where):
        known = {field["name"] for field in fields}
        unknown = set(value) - known - {"TopicId"}  # A topic may be named in both ways.
        if unknown:
            raise ValueError(f"{where or 'the message'} has no field {', '.join(sorted(unknown))}")
        tagged = {}
        for field in fields:
            if within(field.get("taggedVersions"), self.version):
                if field["name"] in value:
                    tagged[field["tag"]] = field
            elif within(field["versions"], self.version):
                self.field(field, value, where)
        if self.flexible:
            self.varint(len(tagged))
            for tag, field in sorted(tagged.items()):
                own = Writer(self.message, self.version)
                own.field(field, value, where)
                self.varint(tag)
                self.varint(len(own.out))
                self.out += own.out

    def field(self, field, value, where):
        name = field["name"]
        content = value[name] if name in value else default_of(field, self.message.structs, self.version)
        self.value(field["type"], content, f"{where}.{name}", within(field.get("nullableVersions"), self.version))

    def value(self, kind, content, where, nullable=False):
        if kind in NUMBERS:
            self.out += struct.pack(NUMBERS[kind], content)
        elif kind == "bool":
            self.out += b"\1" if content else b"\0"
        elif kind == "uuid":
            self.out += content.bytes
        elif kind.startswith("[]"):
            self.length(content, ">i")
            for number, each in enumerate(content or []):
                self.value(kind[2:], each, f"{where}[{number}]")
        elif kind == "string":
            encoded = content.encode() if content is not None else None
            self.length(encoded, ">h")
            self.out += encoded or b""
        elif kind in ("bytes", "records"):
            self.length(content, ">i")
            self.out += content or b""
        else:
            if nullable:
                self.out += b"\xff" if content is None else b"\1"
            if content is not None:
                self.struct(self.message.structs[kind], content, where)

    def length(self, content, form):
        if self.flexible:
            self.varint(0 if content is None else len(content) + 1)
        else:
            self.out += struct.pack(form, -1 if content is None else len(content))

    def varint(self, number):
        while number > 127:
            self.out.append(number & 127 | 128)
            number >>= 7
        self.out.append(number)


class Reader:
    def __init__(self, content):
        self.content, self.at = content, 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.content):
            raise ValueError(f"{count} bytes wanted at {self.at} of {len(self.content)}")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self, kind):
        form = NUMBERS[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def varint(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    def tags(self):
        """Returns the contents of tagged fields by their tags."""
        found = {}
        for _ in range(self.varint()):
            tag = self.varint()
            found[tag] = self.take(self.varint())
        return found

    def struct(self, message, fields, version):
        value, tagged = {}, {}
        for field in fields:
            if within(field.get("taggedVersions"), version):
                tagged[field["tag"]] = field
                value[field["name"]] = default_of(field, message.structs, version)
            elif within(field["versions"], version):
                value[field["name"]] = self.value(message, field, field["type"], version)
        if message.is_flexible(version):
            for tag, content in self.tags().items():
                field = tagged[tag]
                value[field["name"]] = Reader(content).value(message, field, field["type"], version)
        return value

    def value(self, message, field, kind, version):
        flexible = message.is_flexible(version)
        if kind in NUMBERS:
            return self.number(kind)
        if kind == "bool":
            return self.take(1) != b"\0"
        if kind == "uuid":
            return uuid.UUID(bytes=self.take(16))
        if kind.startswith("[]"):
            count = self.varint() - 1 if flexible else self.number("int32")
            element = {"name": "", "type": kind[2:]}
            return None if count < 0 else [self.value(message, element, kind[2:], version) for _ in range(count)]
        if kind in ("string", "bytes", "records"):
            length = self.varint() - 1 if flexible else self.number("int16" if kind == "string" else "int32")
            if length < 0:
                return None
            content = self.take(length)
            return content.decode() if kind == "string" else content
        if within(field.get("nullableVersions"), version) and self.number("int8") < 0:
            return None
        return self.struct(message, message.structs[kind], version)
