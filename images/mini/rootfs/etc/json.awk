# Flattens JSON: one line "path<TAB>value" for every leaf. Path parts are joined by dots, array members are numbered.
function unescape(s,  out, at, c) {
  if (index(s, "\\") == 0) return s
  out = ""
  while ((at = index(s, "\\")) > 0) {
    c = substr(s, at + 1, 1)
    out = out substr(s, 1, at - 1) (c == "n" || c == "t" || c == "r" ? " " : c == "u" ? "?" : c)
    s = substr(s, at + (c == "u" ? 6 : 2))
  }
  return out s
}
function emit(value) {
  print path[depth] (kind[depth] == "[" ? "." count[depth]++ : (depth ? "." key[depth] : "")) "\t" value
}
function open(bracket,  name) {
  name = path[depth] (depth == 0 ? "" : kind[depth] == "[" ? "." count[depth]++ : "." key[depth])
  depth++; path[depth] = name; kind[depth] = bracket; count[depth] = 0; wants_key = (bracket == "{")
}
{ text = text $0 " " }
END {
  while (match(text, /^[ \t\r,:]*("([^"\\]|\\.)*"|[][{}]|[^][{}", :\t\r]+)/)) {
    token = substr(text, 1, RLENGTH); text = substr(text, RLENGTH + 1)
    sub(/^[ \t\r,:]*/, "", token)
    first = substr(token, 1, 1)
    if (first == "{" || first == "[") { open(first); continue }
    if (first == "}" || first == "]") { if (depth) depth--; wants_key = (kind[depth] == "{"); continue }
    if (first == "\"") token = unescape(substr(token, 2, length(token) - 2))
    if (kind[depth] == "{" && wants_key) { key[depth] = token; wants_key = 0; continue }
    emit(token); wants_key = (kind[depth] == "{")
  }
}
