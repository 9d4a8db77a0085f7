"""The public items of a crate, one a line, from the JSON that rustdoc writes: `list.py FILE.json`."""

import json
import sys



def joined(parts):
    return ", ".join(part for part in parts if part)


def arguments(args):
    if not args:
        return ""
    if "parenthesized" in args:
        inputs = joined(of_type(t) for t in args["parenthesized"]["inputs"])
        output = args["parenthesized"]["output"]
        return f"({inputs})" + (f" -> {of_type(output)}" if output else "")
    if "angle_bracketed" not in args:
        return ""
    found = [argument(a) for a in args["angle_bracketed"]["args"]]
    found += [constraint(c) for c in args["angle_bracketed"]["constraints"]]
    return f"<{joined(found)}>" if found else ""


def argument(arg):
    if arg == "infer":
        return "_"
    kind, value = next(iter(arg.items()))
    if kind == "type":
        return of_type(value)
    return value["expr"] if kind == "const" else value


def constraint(c):
    kind, value = next(iter(c["binding"].items()))
    if kind == "equality":
        return f"{c['name']} = {argument({'type': value['type']} if 'type' in value else {'const': value['constant']})}"
    return f"{c['name']}: {bounds(value)}"


def path(p):
    return p["path"].split("::")[-1] + arguments(p.get("args"))


def bound(b):
    kind, value = next(iter(b.items()))
    if kind == "trait_bound":
        maybe = "?" if value["modifier"] == "maybe" else ""
        return maybe + path(value["trait"])
    return value if kind == "outlives" else "use<..>"


def bounds(found):
    return " + ".join(bound(b) for b in found)


def of_type(t):
    if t == "infer":
        return "_"
    kind, v = next(iter(t.items()))
    match kind:
        case "resolved_path":
            return path(v)
        case "generic" | "primitive":
            return v
        case "borrowed_ref":
            lifetime = f"{v['lifetime']} " if v["lifetime"] else ""
            return f"&{lifetime}{'mut ' if v['is_mutable'] else ''}{of_type(v['type'])}"
        case "raw_pointer":
            return f"*{'mut' if v['is_mutable'] else 'const'} {of_type(v['type'])}"
        case "tuple":
            return f"({joined(map(of_type, v))})"
        case "slice":
            return f"[{of_type(v)}]"
        case "array":
            return f"[{of_type(v['type'])}; {v['len']}]"
        case "impl_trait":
            return f"impl {bounds(v)}"
        case "dyn_trait":
            traits = [path(p["trait"]) for p in v["traits"]]
            return "dyn " + " + ".join(traits + ([v["lifetime"]] if v["lifetime"] else []))
        case "qualified_path":
            return f"{of_type(v['self_type'])}::{v['name']}"
        case "function_pointer":
            return "fn" + signature(v["sig"])
    return kind


def signature(sig):
    inputs = joined("self" if name == "self" and t == {"generic": "Self"} else
                    ("&mut self" if t["borrowed_ref"]["is_mutable"] else "&self")
                    if name == "self" and "borrowed_ref" in t else of_type(t)
                    for name, t in sig["inputs"])
    return f"({inputs})" + (f" -> {of_type(sig['output'])}" if sig["output"] else "")


def generics(g):
    found = []
    for param in g["params"]:
        kind, v = next(iter(param["kind"].items()))
        if kind == "const":
            found.append(f"const {param['name']}: {of_type(v['type'])}")
        elif kind == "lifetime":
            found.append(param["name"])
        elif not v["is_synthetic"]:
            found.append(param["name"] + (f": {bounds(v['bounds'])}" if v["bounds"] else ""))
    where = []
    for predicate in g["where_predicates"]:
        kind, v = next(iter(predicate.items()))
        if kind == "bound_predicate":
            where.append(f"{of_type(v['type'])}: {bounds(v['bounds'])}")
    shown = f"<{joined(found)}>" if found else ""
    return shown, f" where {joined(where)}" if where else ""


class Crate:
    def __init__(self, file):
        self.all = json.load(open(file))
        self.index = self.all["index"]
        self.lines = set()

    def item(self, id):
        return self.index.get(str(id))

    def add(self, line):
        self.lines.add(line)

    def module(self, item, prefix):
        for id in item["inner"]["module"]["items"]:
            child = self.item(id)
            if child and child["visibility"] == "public":
                self.public(child, prefix)

    def public(self, item, prefix, name=None):
        kind, inner = next(iter(item["inner"].items()))
        at = f"{prefix}::{name or item['name']}"
        if kind == "use":
            target = self.item(inner["id"]) if inner["id"] is not None else None
            if target is None:
                self.add(f"{prefix}::{inner['name']} = {inner['source']}")
            elif inner["is_glob"]:
                self.module(target, prefix)
            else:
                self.public(target, prefix, inner["name"])
        elif kind == "module":
            self.add(f"{at}: mod")
            self.module(item, at)
        else:
            self.leaf(item, kind, inner, at)

    def leaf(self, item, kind, inner, at):
        match kind:
            case "function":
                shown, where = generics(inner["generics"])
                unsafe = "unsafe " if inner["header"]["is_unsafe"] else ""
                self.add(f"{at}: {unsafe}fn{shown}{signature(inner['sig'])}{where}")
            case "constant":
                self.add(f"{at}: const {of_type(inner['type'])}")
            case "assoc_const":
                self.add(f"{at}: const {of_type(inner['type'])}")
            case "static":
                self.add(f"{at}: static {of_type(inner['type'])}")
            case "type_alias":
                shown, _ = generics(inner["generics"])
                self.add(f"{at}: type{shown} = {of_type(inner['type'])}")
            case "assoc_type":
                self.add(f"{at}: type" + (f": {bounds(inner['bounds'])}" if inner["bounds"] else ""))
            case "struct" | "enum" | "union":
                shown, where = generics(inner["generics"])
                self.add(f"{at}: {kind}{shown}{where}")
                self.fields(inner, at)
                for id in inner.get("variants", []):
                    self.variant(self.item(id), at)
                self.impls(inner["impls"], at)
            case "trait":
                shown, where = generics(inner["generics"])
                over = f": {bounds(inner['bounds'])}" if inner["bounds"] else ""
                self.add(f"{at}: trait{shown}{over}{where}")
                for id in inner["items"]:
                    child = self.item(id)
                    kind, of = next(iter(child["inner"].items()))
                    self.leaf(child, kind, of, f"{at}::{child['name']}")
            case _:
                self.add(f"{at}: {kind}")

    def fields(self, inner, at):
        kind = inner.get("kind")
        if not isinstance(kind, dict):
            return
        ids = kind["plain"]["fields"] if "plain" in kind else kind.get("tuple", [])
        for id in ids:
            field = self.item(id) if id is not None else None
            if field and field["visibility"] == "public":
                self.add(f"{at}.{field['name']}: {of_type(field['inner']['struct_field'])}")

    def variant(self, item, at):
        kind = item["inner"]["variant"]["kind"]
        ids = []
        if isinstance(kind, dict):
            ids = kind["tuple"] if "tuple" in kind else kind["struct"]["fields"]
        fields = [self.item(id) for id in ids if id is not None]
        shown = joined(f"{f['name']}: {of_type(f['inner']['struct_field'])}" for f in fields if f)
        self.add(f"{at}::{item['name']}: variant" + (f" {{{shown}}}" if shown else ""))

    def impls(self, ids, at):
        for id in ids:
            item = self.item(id)
            if not item:
                continue
            inner = item["inner"]["impl"]
            if inner["is_synthetic"] or inner["blanket_impl"]:
                continue
            if inner["trait"]:
                name = path(inner["trait"])
                if name.split("<")[0] not in {"StructuralPartialEq"}:
                    self.add(f"{at}: impl {name}")
                continue
            for id in inner["items"]:
                child = self.item(id)
                if child and child["visibility"] == "public":
                    kind, of = next(iter(child["inner"].items()))
                    self.leaf(child, kind, of, f"{at}::{child['name']}")


def main():
    crate = Crate(sys.argv[1])
    root = crate.item(crate.all["root"])
    crate.module(root, root["name"])
    print("\n".join(sorted(crate.lines)))


main()
