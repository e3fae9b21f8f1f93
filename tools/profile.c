/* Profiles: $XDG_CONFIG_HOME/rivulet/NAME.properties, or ~/.config/rivulet/NAME.properties.
 *
 *   # a comment, to the end of the line when the line begins with it
 *   bootstrap.servers = one.example.org:9092,two.example.org:9092
 *   compression.type=zstd
 *
 * One option of the client library a line, blanks around name and value do not count. */
#include "tools/tool.h"

#include "base/mem.h"
#include "tools/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILE_LIMIT = 1 << 20 }; /* bytes */

static bool path_of(const char *name, struct buf *path)
{
    const char *config = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    if (config && config[0] == '/') {
        buf_printf(path, "%s/rivulet/%s.properties", config, name);
    } else if (home && home[0]) {
        buf_printf(path, "%s/.config/rivulet/%s.properties", home, name);
    }
    return path->len > 0;
}

static struct str trim(struct str s)
{
    while (s.len && strchr(" \t\r", s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len && strchr(" \t\r", s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

static bool is_option(const char *name)
{
    for (const struct rv_option_info *i = rv_options(); i->name; i++) {
        if (strcmp(i->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int line_take(struct tool *t, const char *path, int number, struct str line)
{
    line = trim(line);
    if (line.len == 0 || line.ptr[0] == '#' || line.ptr[0] == '!') {
        return EXIT_DONE;
    }
    const char *equals = memchr(line.ptr, '=', line.len);
    if (!equals) {
        tool_say("%s:%d: '%.*s' is not NAME=VALUE", path, number, STR_ARG(line));
        return EXIT_USAGE;
    }
    struct str name = trim((struct str){line.ptr, (size_t)(equals - line.ptr)});
    struct str value = trim((struct str){equals + 1, line.len - (size_t)(equals - line.ptr) - 1});
    char *copy = mem_alloc(name.len + value.len + 2);
    if (!copy) {
        return tool_no_memory();
    }
    memcpy(copy, name.ptr, name.len);
    copy[name.len] = 0;
    memcpy(copy + name.len + 1, value.ptr, value.len);
    copy[name.len + 1 + value.len] = 0;
    if (!is_option(copy) || t->text_count == TOOL_OPTIONS_LIMIT - 1) {
        tool_say(is_option(copy)
                     ? "%s:%d: too many options before '%s'"
                     : "%s:%d: there is no option '%s'\noptions are named as Kafka's clients "
                       "name them; rivulet(1) lists them",
                 path, number, copy);
        mem_free(copy);
        return EXIT_USAGE;
    }
    t->texts[t->text_count++] = copy;
    return tool_set(t, copy, copy + name.len + 1) ? EXIT_DONE : EXIT_FAILED;
}

static int lines_take(struct tool *t, const char *path, struct str rest)
{
    int code = EXIT_DONE;
    for (int number = 1; code == EXIT_DONE && rest.len > 0; number++) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        size_t size = end ? (size_t)(end - rest.ptr) : rest.len;
        code = line_take(t, path, number, (struct str){rest.ptr, size});
        size += end != NULL;
        rest.ptr += size;
        rest.len -= size;
    }
    return code;
}

int profile_read(struct tool *t, const char *name, bool must)
{
    struct buf path = {0};
    struct buf text = {0};
    int code = EXIT_DONE;
    if (strchr(name, '/') || !name[0]) {
        return tool_usage(t, "--profile: '%s' is no name of a profile", name);
    }
    if (!path_of(name, &path)) {
        code = path.failed ? tool_no_memory()
               : must      ? tool_usage(t, "--profile: neither XDG_CONFIG_HOME nor HOME is set")
                           : EXIT_DONE;
    } else if (!file_read(buf_text(&path), PROFILE_LIMIT, &text)) {
        if (errno != ENOENT || must) {
            tool_say("cannot read the profile %s: %s\nit has lines like "
                     "bootstrap.servers=HOST:PORT",
                     buf_text(&path), strerror(errno));
            code = EXIT_USAGE;
        }
    } else {
        code = lines_take(t, buf_text(&path), (struct str){text.ptr, text.len});
    }
    buf_finish(&path);
    buf_finish(&text);
    return code;
}
