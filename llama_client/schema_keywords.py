"""What becomes of each keyword of a JSON schema: in the grammar of a model in this process, and at strict servers."""

from __future__ import annotations

from typing import Literal, NamedTuple

# `enforced`: the grammar holds the model to it. `rewritten`: to something narrower, all of which is valid.
# `not enforced`: a warning says so, and `parse` checks it. `says nothing`: it restricts no value.
Outcome = Literal["enforced", "rewritten", "not enforced", "says nothing"]
# `kept`: documented for strict schemas. `left out`: nothing is lost by that. `looser`: a schema with it is sent without
# `strict`. Any other text: what is sent in its place.
Strict = Literal["kept", "left out", "looser", "uuid", "ipv4, ipv6"]


class Keyword(NamedTuple):
    """A keyword, or a format of strings."""

    name: str
    outcome: Outcome
    strict: Strict
    how: str = ""


# Strict: the keywords that OpenAI documents (2026-11), whose rules Groq, Cerebras and others share.
_KEYWORDS = (
    Keyword("type", "enforced", "kept"),
    Keyword("enum", "enforced", "kept"),
    Keyword("const", "enforced", "kept"),
    Keyword("$ref", "enforced", "kept", "within the schema; recursion at most 6 levels deep"),
    Keyword("$defs", "enforced", "kept"),
    Keyword("definitions", "enforced", "looser"),
    Keyword("anyOf", "enforced", "kept", "branches that no text satisfies are left out"),
    Keyword("oneOf", "enforced", "looser", "not enforced where a value may fit several branches"),
    Keyword("allOf", "enforced", "looser", "as one schema"),
    Keyword("properties", "enforced", "kept", "in the order of the schema, each at most once"),
    Keyword("required", "enforced", "kept"),
    Keyword(
        "additionalProperties", "rewritten", "kept",
        "none beside `properties`; without these at most 64, whose names are not compared: twice the same is a failure",
    ),
    Keyword("patternProperties", "enforced", "looser", "names that fit one pattern"),
    Keyword("propertyNames", "enforced", "looser", "a list of names, each at most once; else as a string"),
    Keyword("minProperties", "enforced", "looser"),
    Keyword("maxProperties", "enforced", "looser"),
    Keyword("items", "enforced", "kept"),
    Keyword("prefixItems", "enforced", "looser"),
    Keyword("minItems", "enforced", "kept"),
    Keyword("maxItems", "enforced", "kept"),
    Keyword("uniqueItems", "rewritten", "looser", "items of an `enum` in its order; not enforced for others"),
    Keyword("minLength", "enforced", "looser", "together with `pattern` and `format`"),
    Keyword("maxLength", "enforced", "looser", "together with `pattern` and `format`; beside a pattern maybe shorter"),
    Keyword(
        "pattern", "rewritten", "kept",
        "`.`, negated classes, `\\d`, `\\w`, `\\s`, `\\b`, lazy quantifiers, look-ahead at the beginning; without "
        "anchors, one that describes a value (four characters or more, with classes) is the whole text, and of others "
        "at most 40 characters stand before and after it; not enforced: other look-around, references to groups, and "
        "what needs too many rules",
    ),
    Keyword("format", "rewritten", "kept", "see the next table"),
    Keyword("minimum", "enforced", "kept"),
    Keyword("maximum", "enforced", "kept"),
    Keyword("exclusiveMinimum", "enforced", "kept"),
    Keyword("exclusiveMaximum", "enforced", "kept"),
    Keyword("multipleOf", "enforced", "kept", "not enforced for large divisors"),
    Keyword("contentSchema", "enforced", "left out", "JSON in a string, without escapes in it"),
    Keyword("contentMediaType", "enforced", "left out", "`application/json`"),
    Keyword("contentEncoding", "not enforced", "left out"),
    Keyword("not", "not enforced", "looser"),
    Keyword("if", "not enforced", "looser"),
    Keyword("then", "not enforced", "looser"),
    Keyword("else", "not enforced", "looser"),
    Keyword("contains", "not enforced", "looser"),
    Keyword("minContains", "not enforced", "looser"),
    Keyword("maxContains", "not enforced", "looser"),
    Keyword("dependentRequired", "not enforced", "looser"),
    Keyword("dependentSchemas", "not enforced", "looser"),
    Keyword("unevaluatedItems", "not enforced", "looser"),
    Keyword("unevaluatedProperties", "not enforced", "looser"),
    Keyword("title", "says nothing", "kept"),
    Keyword("description", "says nothing", "kept"),
    Keyword("default", "says nothing", "left out"),
    Keyword("examples", "says nothing", "left out"),
    Keyword("deprecated", "says nothing", "left out"),
    Keyword("readOnly", "says nothing", "left out"),
    Keyword("writeOnly", "says nothing", "left out"),
    Keyword("$comment", "says nothing", "left out"),
    Keyword("discriminator", "says nothing", "looser"),
)  # fmt: skip
_FORMATS = (
    Keyword("date-time", "enforced", "kept", "years from 1000, days that exist, with a time zone"),
    Keyword("date", "enforced", "kept", "years from 1000, days that exist"),
    Keyword("time", "enforced", "kept", "with a time zone"),
    Keyword("duration", "rewritten", "kept", "ISO 8601: weeks, or days, hours, minutes and seconds"),
    Keyword("email", "rewritten", "kept", "plain names at hosts"),
    Keyword("idn-email", "rewritten", "looser", "as `email`"),
    Keyword("name-email", "rewritten", "looser", "an address, also after a name"),
    Keyword("hostname", "rewritten", "kept", "with a top-level domain"),
    Keyword("idn-hostname", "rewritten", "looser", "as `hostname`"),
    Keyword("ipv4", "enforced", "kept"),
    Keyword("ipv6", "rewritten", "kept", "without IPv4 in it"),
    Keyword("ipvanyaddress", "rewritten", "ipv4, ipv6"),
    Keyword("ipv4network", "rewritten", "looser", "of 8, 16, 24 or 32 bits"),
    Keyword("ipv6network", "rewritten", "looser", "of 32, 48 or 64 bits"),
    Keyword("ipvanynetwork", "rewritten", "looser"),
    Keyword("ipv4interface", "enforced", "looser"),
    Keyword("ipv6interface", "rewritten", "looser"),
    Keyword("ipvanyinterface", "rewritten", "looser"),
    Keyword("uuid", "enforced", "kept", "versions 1 to 5"),
    *(Keyword(f"uuid{version}", "enforced", "uuid") for version in range(1, 9)),
    Keyword("uri", "rewritten", "looser", "`http`, `https`, `ftp`, `ws`, `wss`, `file`, `mailto`, `urn`, `tag`, `tel`"),
    Keyword("iri", "rewritten", "looser", "as `uri`"),
    Keyword("uri-reference", "rewritten", "looser", "as `uri`, or a path"),
    Keyword("iri-reference", "rewritten", "looser", "as `uri-reference`"),
    Keyword("uri-template", "rewritten", "looser", "as `uri`"),
    Keyword("multi-host-uri", "rewritten", "looser", "with one host"),
    Keyword("json-pointer", "enforced", "looser"),
    Keyword("relative-json-pointer", "enforced", "looser"),
    Keyword("base64", "rewritten", "looser", "of ASCII text"),
    Keyword("base64url", "rewritten", "looser", "of ASCII text"),
    Keyword("byte", "rewritten", "looser", "as `base64`"),
    Keyword("regex", "rewritten", "looser", "simple ones"),
    Keyword("color", "rewritten", "looser", "`#` and six digits"),
    Keyword("mac-address", "rewritten", "looser", "with colons"),
    Keyword("binary", "says nothing", "left out"),
    Keyword("password", "says nothing", "left out"),
    Keyword("path", "says nothing", "left out"),
    Keyword("json-string", "says nothing", "left out"),
    Keyword("file-path", "not enforced", "looser", "whether the file exists"),
    Keyword("directory-path", "not enforced", "looser", "whether the folder exists"),
)
KEYWORDS = {each.name: each for each in _KEYWORDS}
# A format that is not here is not enforced, and looser.
FORMATS = {each.name: each for each in _FORMATS}
NOT_ENFORCED = frozenset(each.name for each in _KEYWORDS if each.outcome == "not enforced")
