/* Completion: the shells hand over the words of the line (`rivulet --complete WORD...`), and get
 * what the last of them may become, from the table of verbs and, for names, from the broker. */
#include "tools/verbs.h"

#include <ctype.h>
#include <string.h>

enum { ASK_MS = 1000, WORD_SIZE = 256, ABOUT_SIZE = 60 };

struct completion {
    struct tool *t;
    const struct tool_verb *verb; /* NULL: not known yet */
    const char *begin;            /* of the word */
    int arg_count;                /* arguments of the verb before it */
    bool asked;                   /* t->client is there, or cannot be */
};

static void offer(const struct completion *c, const char *word, const char *about)
{
    if (strncmp(word, c->begin, strlen(c->begin)) == 0) {
        printf("%s\t%.*s\n", word, ABOUT_SIZE, about);
    }
}

static void offer_files(void)
{
    puts(":files");
}

/* Words in small letters, digits too, between anything else: "none|gzip", "start|end|OFFSET|@TIME".
 */
static void offer_choices(const struct completion *c, const char *text, const char *about)
{
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "|");
        char word[WORD_SIZE];
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        bool is_word = n > 0;
        for (size_t i = 0; i < n; i++) {
            is_word &= islower((unsigned char)p[i]) || isdigit((unsigned char)p[i]);
        }
        if (is_word) {
            offer(c, word, about);
        }
        p += n + (p[n] == '|');
    }
}

/* ---- what the broker knows ---- */

static bool connected(struct completion *c)
{
    struct rv_error e;
    if (!c->asked) {
        c->asked = true;
        c->t->timeout_ms = ASK_MS;
        if (tool_options(c->t) != EXIT_DONE ||
            rv_client_open(c->t->options, &c->t->client, &e) != RV_OK) {
            return false;
        }
        if (rv_client_connect(c->t->client, ASK_MS, &e) != RV_OK) {
            rv_client_close(c->t->client);
            c->t->client = NULL;
        }
    }
    return c->t->client != NULL;
}

static void offer_topics(struct completion *c)
{
    struct rv_topics *topics;
    if (connected(c) && rv_topic_list(c->t->client, ASK_MS, &topics, NULL) == RV_OK) {
        for (size_t i = 0; i < topics->count; i++) {
            if (!topics->items[i].internal) {
                offer(c, topics->items[i].name, "topic");
            }
        }
        rv_free(topics);
    }
}

static void offer_groups(struct completion *c)
{
    struct rv_groups *groups;
    if (connected(c) && rv_group_list(c->t->client, ASK_MS, &groups, NULL) == RV_OK) {
        for (size_t i = 0; i < groups->count; i++) {
            offer(c, groups->items[i].group, "group");
        }
        rv_free(groups);
    }
}

static void offer_settings(struct completion *c, const char *topic)
{
    struct rv_configs *configs;
    if (connected(c) &&
        rv_config_get(c->t->client, RV_TOPIC, topic, ASK_MS, &configs, NULL) == RV_OK) {
        for (size_t i = 0; i < configs->count; i++) {
            offer(c, configs->items[i].name, "setting");
        }
        rv_free(configs);
    }
}

/* ---- what may stand there ---- */

static void offer_value(struct completion *c, const struct tool_option *o)
{
    if (strcmp(o->value, "TOPIC") == 0) {
        offer_topics(c);
    } else if (strcmp(o->value, "GROUP") == 0) {
        offer_groups(c);
    } else if (strcmp(o->value, "FILE") == 0) {
        offer_files();
    } else {
        offer_choices(c, o->value, o->about);
    }
}

static void offer_options(const struct completion *c)
{
    const char *lists[] = {c->verb ? c->verb->options : "", verb_common_options(c->verb)};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (const char *p = lists[i]; *p; p++) {
            const struct tool_option *o = option_of(c->verb, *p);
            char word[WORD_SIZE];
            snprintf(word, sizeof word, "--%s", o->name);
            offer(c, word, o->about);
        }
    }
}

/* The next word of the verb, behind `first` (NULL: it is the first word). */
static void offer_verbs(const struct completion *c, const char *first)
{
    char last[WORD_SIZE] = "";
    for (const struct tool_verb *v = verbs; v->name; v++) {
        size_t n = strcspn(v->name, " ");
        char word[WORD_SIZE];
        snprintf(word, sizeof word, "%.*s", (int)n, v->name);
        if (first && strcmp(first, word) == 0 && v->name[n] == ' ') {
            offer(c, v->name + n + 1, v->about);
        } else if (!first && strcmp(last, word) != 0) {
            offer(c, word, v->name[n] == ' ' ? "" : v->about);
            snprintf(last, sizeof last, "%s", word);
        }
    }
}

static void offer_argument(struct completion *c, const char *first)
{
    const char *args = c->verb->args;
    bool more = c->arg_count < c->verb->most;
    if (strncmp(args, "[TOPIC] NAME", 12) == 0 && c->arg_count > 0 && !tool_has(c->t, 'O')) {
        offer_settings(c, first);
    } else if (more && strcmp(args, "TOPIC GROUP") == 0 && c->arg_count == 1) {
        offer_groups(c);
    } else if (more && (strncmp(args, "TOPIC", 5) == 0 || strncmp(args, "[TOPIC]", 7) == 0)) {
        offer_topics(c);
    } else if (more && strncmp(args, "GROUP", 5) == 0) {
        offer_groups(c);
    } else if (more && strncmp(args, "FILE", 4) == 0) {
        offer_files();
    } else if (more && strncmp(args, "SOURCE", 6) == 0) {
        offer_topics(c);
        offer_files();
    } else if (more) {
        offer_choices(c, args, "");
    }
}

/* The option that a word is when its value is the next word; NULL: it is none of that kind. */
static const struct tool_option *option_before_value(const struct tool_verb *v, const char *word)
{
    for (const struct tool_option *o = options; o->name; o++) {
        bool is_it = (o->is_short && word[0] == '-' && word[1] == o->letter && !word[2]) ||
                     (strncmp(word, "--", 2) == 0 && strcmp(word + 2, o->name) == 0);
        if (is_it && o->form != OPTION_FLAG) {
            return option_of(v, o->letter);
        }
    }
    return NULL;
}

int complete(struct tool *t, int count, char **words)
{
    struct completion c = {.t = t, .begin = count > 0 ? words[count - 1] : ""};
    char *plain[TOOL_ARGS_LIMIT];
    int plain_count = 0, verb_words = 0;
    const struct tool_option *before = NULL;
    for (int i = 0; i < count - 1; i++) {
        if (before) {
            t->values[(unsigned char)before->letter] = words[i];
            before = NULL;
        } else if (words[i][0] == '-') {
            before = option_before_value(c.verb, words[i]);
        } else if (plain_count < TOOL_ARGS_LIMIT) {
            plain[plain_count++] = words[i];
            c.verb = c.verb ? c.verb : verb_find(plain_count, plain, &verb_words);
        }
    }
    c.arg_count = plain_count - verb_words;
    t->values['X'] = NULL; /* what comes as pairs is not kept: only where to ask matters */
    if (before) {
        offer_value(&c, before);
    } else if (c.begin[0] == '-') {
        offer_options(&c);
    } else if (!c.verb) {
        offer_verbs(&c, plain_count ? plain[0] : NULL);
    } else {
        offer_argument(&c, c.arg_count > 0 ? plain[verb_words] : NULL);
    }
    rv_client_close(t->client);
    return EXIT_DONE;
}

/* ---- the shells' side ---- */

static const char bash_script[] =
    "# bash completion of rivulet\n"
    "_rivulet() {\n"
    "    local line=${COMP_LINE:0:COMP_POINT} words word files=\n"
    "    read -ra words <<<\"$line\"\n"
    "    [[ $line == *[[:space:]] ]] && words+=(\"\")\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r word; do\n"
    "        if [[ $word == :files ]]; then files=1; else COMPREPLY+=(\"${word%%$'\\t'*}\"); fi\n"
    "    done < <(\"${words[0]/#\\~/$HOME}\" --complete \"${words[@]:1}\" 2>/dev/null)\n"
    "    if [[ $files ]]; then\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        while IFS= read -r word; do COMPREPLY+=(\"$word\"); done \\\n"
    "            < <(compgen -f -- \"${words[${#words[@]} - 1]}\")\n"
    "    fi\n"
    "}\n"
    "complete -F _rivulet rivulet\n";

static const char zsh_script[] =
    "#compdef rivulet\n"
    "_rivulet() {\n"
    "    local line files\n"
    "    local -a found\n"
    "    for line in \"${(@f)$(\"${words[1]/#\\~/$HOME}\" --complete \"${(@)words[2,CURRENT]}\" "
    "2>/dev/null)}\"; do\n"
    "        if [[ $line == :files ]]; then\n"
    "            files=1\n"
    "        elif [[ -n $line ]]; then\n"
    "            found+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
    "        fi\n"
    "    done\n"
    "    (( ${#found} )) && _describe -V rivulet found\n"
    "    [[ -n $files ]] && _files\n"
    "}\n"
    "if [[ $funcstack[1] == _rivulet ]]; then _rivulet \"$@\"; else compdef _rivulet rivulet; fi\n";

static const char fish_script[] =
    "# fish completion of rivulet\n"
    "function __rivulet_complete\n"
    "    set -l words (commandline -opc) (commandline -ct)\n"
    "    for line in ($words[1] --complete $words[2..-1] 2>/dev/null)\n"
    "        if test \"$line\" = :files\n"
    "            __fish_complete_path (commandline -ct)\n"
    "        else\n"
    "            echo $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c rivulet -f -a '(__rivulet_complete)'\n";

int verb_completion(struct tool *t)
{
    const char *shell = t->args[0];
    const char *script = strcmp(shell, "bash") == 0   ? bash_script
                         : strcmp(shell, "zsh") == 0  ? zsh_script
                         : strcmp(shell, "fish") == 0 ? fish_script
                                                      : NULL;
    if (!script) {
        return tool_usage(t, "'%s' is not bash, zsh or fish", shell);
    }
    return fputs(script, stdout) == EOF ? EXIT_FAILED : EXIT_DONE;
}
