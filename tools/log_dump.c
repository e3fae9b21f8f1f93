/* rivulet log dump, rivulet log check: what is in a partition's files, and whether they agree with
 * each other. */
#include "tools/log_dump.h"

#include "base/mem.h"
#include "tools/terminal.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DUMP_DEPTH = 2 }; /* a data directory, its partitions: directories below are not entered */

static void write_json(struct dump *d, json_t *object)
{
    if (!json_line(stdout, object)) {
        d->failed = true;
    }
}

void dump_json(struct dump *d, json_t *object)
{
    if (d->quiet) {
        json_decref(object);
    } else {
        write_json(d, object);
    }
}

void dump_print(const struct dump *d, const char *format, ...)
{
    if (!d->quiet && !d->t->json) {
        va_list args;
        va_start(args, format);
        vprintf(format, args);
        va_end(args);
    }
}

void dump_file(struct dump *d, const char *path)
{
    d->files++;
    dump_print(d, "%s\n", path);
}

void dump_problem(struct dump *d, const char *path, const char *format, ...)
{
    char text[300];
    va_list args;
    if (d->journal_only) {
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->problems++;
    if (d->t->json) {
        write_json(d, json_pack("{s:s,s:o,s:o}", "kind", "problem", "file", json_text(path), "text",
                                json_text(text)));
    } else {
        printf("%sPROBLEM%s %s: %s\n", color_begin(stdout, COLOR_RED), color_end(stdout), path,
               text);
    }
}

void dump_bytes(struct bytes b)
{
    if (!b.ptr) {
        fputs("null", stdout);
        return;
    }
    putchar('"');
    for (size_t i = 0; i < b.len; i++) {
        uint8_t c = b.ptr[i];
        if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c == '\n') {
            fputs("\\n", stdout);
        } else if (c >= 0x20 && c < 0x7f) {
            putchar(c);
        } else {
            printf("\\x%02x", c);
        }
    }
    putchar('"');
}

/* ---- which files */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name);
    size_t m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* The segment that an index belongs to. Text, not terminated: for buf_text. */
static void add_segment_path(struct buf *to, const char *path)
{
    const char *dot = strrchr(path, '.');
    buf_add(to, path, (size_t)(dot - path));
    buf_add_str(to, STR(".log"));
}

/* An index stands for its segment: neither can be judged without the other. */
static void dump_index_file(struct dump *d, const char *path)
{
    struct buf log = {0};
    struct stat st;
    add_segment_path(&log, path);
    const char *text = buf_text(&log);
    if (log.failed) {
        dump_problem(d, path, "out of memory");
    } else if (stat(text, &st) != 0) {
        dump_problem(d, path, "no segment beside it: %s", strerror(errno));
    } else {
        dump_segment(d, text);
    }
    buf_finish(&log);
}

struct dumper {
    const char *name; /* end of the file's name */
    bool is_of_dirs;  /* also when a whole directory is dumped */
    void (*dump)(struct dump *d, const char *path);
};

static const struct dumper dumpers[] = {
    {".log",                    true,  dump_segment   },
    {".index",                  false, dump_index_file},
    {".timeindex",              false, dump_index_file},
    {".snapshot",               true,  dump_producers },
    {"leader-epoch-checkpoint", true,  dump_epochs    },
    {"offset-checkpoint",       true,  dump_offsets   },
};

static const struct dumper *dumper_of(const char *path)
{
    for (size_t i = 0; i < sizeof dumpers / sizeof dumpers[0]; i++) {
        if (ends_with(path, dumpers[i].name)) {
            return &dumpers[i];
        }
    }
    return NULL;
}

/* An index whose segment is missing would otherwise be passed over in silence. */
static void check_orphan(struct dump *d, const char *path)
{
    if (ends_with(path, ".index") || ends_with(path, ".timeindex")) {
        struct buf log = {0};
        struct stat st;
        add_segment_path(&log, path);
        const char *text = buf_text(&log);
        if (log.failed) {
            dump_problem(d, path, "out of memory");
        } else if (stat(text, &st) != 0) {
            dump_problem(d, path, "no segment beside it: %s", strerror(errno));
        }
        buf_finish(&log);
    }
}

/* The names of a directory, in order. */
struct names {
    struct buf list; /* of char *, owned */
    size_t count;
};

static void names_finish(struct names *n)
{
    for (size_t i = 0; i < n->count; i++) {
        mem_free(((char **)(void *)n->list.ptr)[i]);
    }
    buf_finish(&n->list);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* False: errno says why; `n` holds what was read. */
static bool names_read(struct names *n, const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *e;
    int error = dir ? 0 : errno;
    while (dir && !error && (errno = 0, e = readdir(dir))) {
        char *name = mem_dup(e->d_name, strlen(e->d_name) + 1);
        if (!name || !buf_reserve(&n->list, sizeof name)) {
            mem_free(name);
            error = ENOMEM;
        } else {
            buf_add(&n->list, &name, sizeof name);
            n->count++;
        }
    }
    if (dir) {
        error = error ? error : errno;
        closedir(dir);
    }
    if (n->count > 0) {
        qsort(n->list.ptr, n->count, sizeof(char *), compare_names);
    }
    errno = error;
    return error == 0;
}

static void dump_dir(struct dump *d, const char *path, int depth);

static void dump_entry(struct dump *d, const char *path, int depth)
{
    const struct dumper *dumper = dumper_of(path);
    struct stat st;
    if (lstat(path, &st) != 0) {
        dump_problem(d, path, "%s", strerror(errno));
    } else if (S_ISDIR(st.st_mode) && depth > 1) {
        dump_dir(d, path, depth - 1);
    } else if (S_ISREG(st.st_mode) && dumper) {
        dumper->is_of_dirs ? dumper->dump(d, path) : check_orphan(d, path);
    }
}

static void dump_dir(struct dump *d, const char *path, int depth)
{
    struct names names = {0};
    d->next_offset = -1;
    dump_journal_enter(d, path);
    if (!names_read(&names, path)) {
        dump_problem(d, path, "cannot be listed: %s", strerror(errno));
    }
    for (size_t i = 0; i < names.count && !d->failed; i++) {
        const char *name = ((char **)(void *)names.list.ptr)[i];
        struct buf entry = {0};
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            continue;
        }
        buf_printf(&entry, "%s/%s", path, name);
        const char *text = buf_text(&entry);
        if (entry.failed) {
            dump_problem(d, path, "out of memory");
        } else {
            dump_entry(d, text, depth);
        }
        buf_finish(&entry);
    }
    names_finish(&names);
    dump_journal_leave(d, path);
}

static void dump_all(struct dump *d)
{
    const struct tool *t = d->t;
    for (int i = 0; i < t->arg_count && !d->failed; i++) {
        const char *path = t->args[i];
        const struct dumper *dumper = dumper_of(path);
        struct stat st;
        d->next_offset = -1;
        if (!dump_journal_open(d, path)) {
            d->files++; /* there is one, and it is a problem */
        } else if (stat(path, &st) != 0) {
            dump_problem(d, path, "%s", strerror(errno));
        } else if (S_ISDIR(st.st_mode)) {
            dump_dir(d, path, DUMP_DEPTH);
        } else if (dumper) {
            dumper->dump(d, path);
        } else {
            dump_problem(d, path, "neither .log, .index, .timeindex, .snapshot nor a checkpoint");
        }
        dump_journal_close(d);
    }
    batch_scratch_finish(&d->scratch);
    buf_finish(&d->batch);
}

void dump_journal_report(const struct tool *t, const char *path)
{
    struct dump d = {.t = t, .quiet = true, .journal_only = true};
    if (dump_journal_open(&d, path)) {
        dump_dir(&d, path, DUMP_DEPTH);
    }
    dump_journal_close(&d);
    batch_scratch_finish(&d.scratch);
    buf_finish(&d.batch);
}

int verb_log_dump(struct tool *t)
{
    struct dump d = {.t = t, .records = tool_has(t, 'r')};
    dump_all(&d);
    if (d.problems > 0) {
        fflush(stdout);
        tool_say("%lld problem%s", (long long)d.problems, d.problems == 1 ? "" : "s");
    }
    return d.failed || d.problems > 0 ? EXIT_FAILED : EXIT_DONE;
}

int verb_log_check(struct tool *t)
{
    struct dump d = {.t = t, .quiet = true};
    dump_all(&d);
    if (!d.failed && d.problems == 0 && d.files == 0) {
        tool_say(
            "there is no log in %s%s\nit is the data directory of a broker, or one of a partition "
            "in it",
            t->args[0], t->arg_count > 1 ? " ..." : "");
        return EXIT_FAILED;
    }
    if (t->json && !d.failed) {
        write_json(&d, json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "kind", "summary", "files",
                                 (json_int_t)d.files, "segments", (json_int_t)d.segment_count,
                                 "batches", (json_int_t)d.batch_count, "records",
                                 (json_int_t)d.record_count, "bytes", (json_int_t)d.bytes,
                                 "problems", (json_int_t)d.problems));
    } else if (!d.failed) {
        printf(
            "%s%lld problem%s%s in %lld file%s: %lld segment%s, %lld batch%s, %lld record%s, %lld "
            "bytes\n",
            color_begin(stdout, d.problems ? COLOR_RED : COLOR_GREEN), (long long)d.problems,
            d.problems == 1 ? "" : "s", color_end(stdout), (long long)d.files,
            d.files == 1 ? "" : "s", (long long)d.segment_count, d.segment_count == 1 ? "" : "s",
            (long long)d.batch_count, d.batch_count == 1 ? "" : "es", (long long)d.record_count,
            d.record_count == 1 ? "" : "s", (long long)d.bytes);
    }
    return d.failed || d.problems > 0 ? EXIT_FAILED : EXIT_DONE;
}
