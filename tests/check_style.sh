#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The rules of the house that no compiler checks. Needs the objects of $BUILD. Says every breach,
# then fails.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/breaches"

# report <rule>: each line on stdin is a breach of it. They are kept in a file, because the end of a
# pipe is a shell of its own.
report() {
    sed 's/^/  /' >"$work/found"
    [ -s "$work/found" ] || return 0
    { echo "lint: $1:"; cat "$work/found"; } | tee -a "$work/breaches"
}

need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    echo "lint: $1 is missing: make deps"
    exit 1
}

library=$(find lib -name '*.[ch]' | sort)
public=$(find include -name '*.h' | sort)
c_files="$library $public $(find examples tests -name '*.[ch]' ! -path '*/empty/*' | sort)"
others=$(find Makefile .ci tests examples lib -type f \
    \( -name Makefile -o -path '.ci/*' -o -name '*.sh' -o -name '*.py' -o -name '*.map' \) | sort)
prose=$(find . -maxdepth 1 -name '*.md'; find man -type f 2>/dev/null)

need clang-format
for file in $c_files; do
    clang-format --dry-run -Werror "$file" 2>/dev/null || echo "$file"
done | report "not as clang-format -i writes it"

for file in $c_files; do
    head -n 1 "$file" | grep -q '^/\* SPDX-License-Identifier: MIT' || echo "$file"
done | report "the first line is not the licence"
for file in $others; do
    head -n 2 "$file" | grep -q 'SPDX-License-Identifier: MIT' || echo "$file"
done | report "no line with the licence at the top"

# Words in brackets, so that this file does not match itself.
# shellcheck disable=SC2086
grep -nEw 'TO[D]O|FIX[M]E|XX[X]|HA[C]K|WI[P]' $c_files $others $prose | report "unfinished"
# shellcheck disable=SC2086
grep -nE '/(home|root|wo[r]k)/' $c_files $others $prose | report "a path of one machine"

need ctags
# shellcheck disable=SC2046
ctags -f - --languages=C --langmap=C:.c.h --kinds-C=f --fields=+ne --sort=no \
    $library $(find examples -name '*.c') | awk -F'\t' '!/^!/ {
        for (i = 4; i <= NF; i++) {
            if ($i ~ /^line:/) from = substr($i, 6)
            if ($i ~ /^end:/) to = substr($i, 5)
        }
        if (to - from + 1 > 60) print $2 ":" from ": " $1 ", " to - from + 1 " lines"
    }' | report "functions of more than 60 lines"

# ---- who may include whom ----
# <files> <allow|deny> <headers>: extended regular expressions; quoted includes and <library> ones
floor='(mem|error|text|id|time|url|crc|file)\.h|credstore\.h|credstore/backend\.h'
cat >"$work/rules" <<END
lib/(mem|error|text|id|time|url|crc|file)\.[ch] allow $floor
lib/json/strict\.[ch] allow $floor|(json/)?strict\.h
lib/(storage|crypto)/.* allow $floor|(storage/|crypto/)?[a-z_]+\.h
lib/kinds/.* deny (storage|crypto|keysource)/.*|(txn|sealed|commit|envelope|keyring|audit)\.h
lib/(envelope|keyring|ring|audit|format|secret|txn|sealed|commit)\.[ch] deny (kind|view|validate|policy|door|update|read)\.h|json/.*
lib/.*\.h deny door\.h
END
# shellcheck disable=SC2086
grep -HnE '^ *# *include *"' $library | sed 's/# *include *"\([^"]*\)".*/\1/' |
    awk -F: -v rules="$work/rules" '
    BEGIN {
        while ((getline line < rules) > 0) {
            split(line, part, " ")
            files[++n] = "^(" part[1] ")$"; mode[n] = part[2]; heads[n] = "^(" part[3] ")$"
        }
    }
    {
        gsub(/ /, "", $3)
        for (i = 1; i <= n; i++)
            if ($1 ~ files[i] && ((mode[i] == "allow") != ($3 ~ heads[i])))
                print $1 ":" $2 ": " $3
    }' | report "includes that run upwards"

only() { # only <system header> <files that may>
    # shellcheck disable=SC2086
    grep -nE "^ *# *include *[<\"]$1" $library $public | grep -vE "^$2:" |
        report "$1 is for $2 alone"
}
only '(cjson/)?cJSON' 'lib/json/json\.c'
only 'openssl/' 'lib/crypto/openssl\.c'
only 'lmdb\.h' 'lib/storage/lmdb[a-z_]*\.[ch]'

# ---- what the code says, without its comments ----
code() {
    gcc -fpreprocessed -dD -E -P "$1" 2>/dev/null
}

need gcc
kinds=$(basename -s .c lib/kinds/*.c | paste -sd '|' -)
for file in $library; do
    case $file in lib/kinds/*) continue ;; esac
    # An actor's type is not a kind.
    code "$file" | sed 's/CREDSTORE_ACTOR_[A-Z_]*//g' | grep -niE "$kinds" | sed "s|^[0-9]*|$file|"
done | report "a kind named outside lib/kinds"

for file in $library; do
    code "$file" |
        grep -nE '(^|[^A-Za-z0-9_.>])(strcpy|strcat|stpcpy|v?sprintf|alloca|assert|gets|strtok)\(' |
        sed "s|^[0-9]*|$file|"
    code "$file" | grep -nE '_Thread_local|__thread|thread_local' | sed "s|^[0-9]*|$file|"
done | report "forbidden in the library"

# ---- what the objects call and keep ----
never='abort exit _exit _Exit quick_exit atexit on_exit printf vprintf fprintf vfprintf puts putchar
 putc fputs fputc fwrite perror stdout stderr __assert_fail syslog system popen rand srand random
 localtime gmtime ctime asctime strerror strtok setenv putenv unsetenv setlocale signal
 CRYPTO_secure_used OPENSSL_cleanup cJSON_InitHooks cJSON_Parse cJSON_ParseWithLength
 cJSON_ParseWithOpts'
allocators='malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf aligned_alloc
 posix_memalign open_memstream getline getdelim'
for source in $(find lib -name '*.c' | sort); do
    object=$BUILD/${source%.c}.o
    names=$never
    [ "$source" = lib/mem.c ] || names="$never $allocators"
    "$NM" -u "$object" | awk -v names="$names" -v source="$source" '
        BEGIN { n = split(names, list, /[ \n]+/); for (i = 1; i <= n; i++) bad[list[i]] = 1 }
        { name = $2; if (name ~ /^__.*_chk$/) { sub(/^__/, "", name); sub(/_chk$/, "", name) }
          if (name in bad) print source ": " name }'
done | report "calls that the library does not make"

# The one process-wide state is the registry of open stores.
for source in $(find lib -name '*.c' | sort); do
    objdump -t "$BUILD/${source%.c}.o" | awk -v source="$source" '
        $0 ~ / O \.(data|bss|tdata|tbss)(\.|\t| )/ && $0 !~ /\.data\.rel\.ro/ {
            print source ": " $NF }'
done | grep -vE '^lib/(store|storage/lmdb_env)\.c: ' | report "variables that outlive a call"

# ---- the exported names ----
{ for header in $public; do
    $CC -E -P -nostdinc -isystem tests/headers/empty -DCREDSTORE_API=CREDSTORE_EXPORT "$header"
done; } | tr '\n' ' ' | tr ';' '\n' | grep CREDSTORE_EXPORT |
    grep -oE 'credstore_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u >"$work/declared"
sed -n 's/^ *\(credstore_[a-z0-9_]*\);/\1/p' lib/libcredstore.map | sort >"$work/listed"
[ -s "$work/declared" ] || echo "no declaration found" | report "the headers"
diff "$work/declared" "$work/listed" | sed -n 's/^</not in the map:/p; s/^>/not in a header:/p' |
    report "lib/libcredstore.map and the headers differ"

pages=$(find man -name '*.[0-9]' 2>/dev/null)
if [ -n "$pages" ]; then
    need mandoc
    # shellcheck disable=SC2086
    mandoc -T lint -W warning $pages | report "mandoc"
fi

if [ -s "$work/breaches" ]; then
    echo "lint: $(grep -c '^  ' "$work/breaches") breaches"
    exit 1
fi
# shellcheck disable=SC2086
echo "lint: $(echo $c_files | wc -w) C files, $(wc -l <"$work/listed") exported names: clean"
