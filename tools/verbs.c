#include "tools/verbs.h"

#include <string.h>

/* clang-format off */
const struct tool_option options[] = {
    {'b', true, OPTION_ONCE, "brokers", "HOST:PORT[,...]", "where to connect (or $RIVULET_BROKERS, or a profile; else 127.0.0.1:9092)", NULL},
    {'Q', false, OPTION_ONCE, "profile", "NAME", "options from ~/.config/rivulet/NAME.properties (or $RIVULET_PROFILE; else default.properties, if it is there)", NULL},
    {'X', true, OPTION_PAIRS, "set", "NAME=VALUE", "an option of the client library, named as Kafka's clients name it", NULL},
    {'j', false, OPTION_FLAG, "json", NULL, "for programs: one JSON object a line", NULL},
    {'t', false, OPTION_ONCE, "timeout", "SECONDS", "give up after this long (30)", NULL},
    {'v', true, OPTION_FLAG, "verbose", NULL, "say on standard error what the connections do", NULL},
    {'h', true, OPTION_FLAG, "help", NULL, "this text", NULL},
    {'y', true, OPTION_FLAG, "yes", NULL, "do it without asking", NULL},
    {'D', false, OPTION_FLAG, "dry-run", NULL, "show what would be done, and do nothing", NULL},
    {'p', true, OPTION_ONCE, "partitions", "N", "the new number of partitions; it can only grow, and keys go to other partitions from then on", "topic alter"},
    {'p', true, OPTION_ONCE, "partitions", "N", "how many partitions (the broker's default)", NULL},
    {'P', false, OPTION_ONCE, "partition", "N", "send to this partition", "produce"},
    {'P', false, OPTION_ONCE, "partition", "N", "only this partition", NULL},
    {'c', true, OPTION_PAIRS, "config", "NAME=VALUE", "a setting of the topic; NAME= goes back to the default", "topic alter"},
    {'c', true, OPTION_PAIRS, "config", "NAME=VALUE", "an option of the relay, as outbox.lease.ms=20000 (see OPTIONS OF THE RELAY)", "outbox"},
    {'c', true, OPTION_PAIRS, "config", "NAME=VALUE", "a setting of the topic", NULL},
    {'k', true, OPTION_ONCE, "key-separator", "TEXT", "print KEY TEXT VALUE", "consume"},
    {'k', true, OPTION_ONCE, "key-separator", "TEXT", "print KEY TEXT VALUE (a tab)", "view"},
    {'k', true, OPTION_ONCE, "key-separator", "TEXT", "lines are KEY TEXT VALUE", NULL},
    {'K', false, OPTION_ONCE, "key", "KEY", "only this key", "view"},
    {'K', false, OPTION_ONCE, "key", "KEY", "only records of this key", "parked"},
    {'K', false, OPTION_ONCE, "key", "KEY", "the key of every record that brings none", NULL},
    {'A', false, OPTION_ONCE, "at", "TIME", "as it was then: later records do not count", NULL},
    {'H', true, OPTION_PAIRS, "header", "NAME=VALUE", "a header for every record, before those that it brings", NULL},
    {'f', true, OPTION_ONCE, "format", "FORMAT", "how records are read, e.g. '%k %v\\n' (see FORMATS)", "produce"},
    {'f', true, OPTION_ONCE, "format", "FORMAT", "how a record is printed, e.g. '%k %v %o %T\\n' (see FORMATS)", NULL},
    {'J', false, OPTION_FLAG, "json-in", NULL, "lines are JSON, as `consume --json` prints them", NULL},
    {'e', false, OPTION_FLAG, "hex", NULL, "keys and values are read as hexadecimal digits", "produce"},
    {'e', false, OPTION_FLAG, "hex", NULL, "keys and values are printed as hexadecimal digits", NULL},
    {'Z', true, OPTION_FLAG, "null", NULL, "an empty key or value is null: an empty value is a tombstone", "produce"},
    {'Z', true, OPTION_FLAG, "null", NULL, "print NULL for null keys and values", NULL},
    {'I', false, OPTION_MANY, "file", "FILE", "send the whole of this file as one record's value, instead of reading standard input", NULL},
    {'z', true, OPTION_ONCE, "compression", "none|gzip|snappy|lz4|zstd", "codec of the batches (none)", NULL},
    {'g', true, OPTION_ONCE, "group", "GROUP", "as a member of a group: go on where it left off, and commit", NULL},
    {'o', true, OPTION_ONCE, "offset", "start|end|OFFSET|@TIME", "where to begin in every partition (start)", NULL},
    {'u', false, OPTION_ONCE, "until", "end|OFFSET|@TIME", "where to stop, in every partition: what is the end now, before an offset, before the first record of a time", NULL},
    {'n', true, OPTION_ONCE, "count", "COUNT", "end after so many records", NULL},
    {'l', false, OPTION_ONCE, "limit", "COUNT", "so many records at most", NULL},
    {'G', false, OPTION_ONCE, "to", "start|end|@TIME|N|+N|-N", "where to: the start, the end, a time, an offset, or so many records on or back", NULL},
    {'x', false, OPTION_FLAG, "force", NULL, "also while members are active: they are removed from the group first", NULL},
    {'O', false, OPTION_ONCE, "broker", "ID", "the settings of this broker, in the place of a topic's", NULL},
    {'L', false, OPTION_ONCE, "to-brokers", "HOST:PORT[,...]", "the target is a topic of this cluster (the same)", NULL},
    {'w', false, OPTION_FLAG, "by-key", NULL, "partitions are chosen by key, whatever partition the input names", "produce"},
    {'w', false, OPTION_FLAG, "by-key", NULL, "partitions are chosen by key; otherwise each record keeps its partition's number", NULL},
    {'C', false, OPTION_ONCE, "connections", "N", "connections", NULL},
    {'s', true, OPTION_ONCE, "size", "BYTES", "bytes of a record's value", NULL},
    {'B', false, OPTION_ONCE, "batch", "RECORDS", "records in a batch", NULL},
    {'a', true, OPTION_ONCE, "acks", "0|1|all", "acknowledgements (all)", NULL},
    {'F', false, OPTION_ONCE, "in-flight", "N", "requests on their way, a connection", NULL},
    {'d', true, OPTION_ONCE, "seconds", "N", "how long (5)", NULL},
    {'m', false, OPTION_ONCE, "pid", "PID", "the broker's process: tell its CPU and memory", NULL},
    {'r', true, OPTION_FLAG, "records", NULL, "the events that wait, too", "spool"},
    {'r', true, OPTION_FLAG, "records", NULL, "keys, values and headers too", NULL},
    {'T', false, OPTION_ONCE, "topic", "TOPIC", "only this topic, all of its partitions, also those that the group has committed nothing of", "group"},
    {'T', false, OPTION_ONCE, "topic", "TOPIC", "the topic to use; made when it is not there (rivulet-bench)", NULL},
    {'W', false, OPTION_ONCE, "warm-up", "SECONDS", "before it counts (1)", NULL},
    {'R', false, OPTION_ONCE, "rate", "N", "requests a second (1000)", NULL},
    {'M', false, OPTION_ONCE, "max-bytes", "BYTES", "of records in one answer (1048576)", NULL},
    {'7', false, OPTION_ONCE, "table", "NAME", "the outbox's table (rivulet_outbox)", NULL},
    {'U', false, OPTION_FLAG, "unsure", NULL, "those too that may be stored already: if they are, they will be twice", NULL},
    {'8', false, OPTION_FLAG, "resend", NULL, "it was not stored: publish its rows again", NULL},
    {'9', false, OPTION_FLAG, "skip", NULL, "it was stored: its rows count as published", NULL},
    {0},
};

#define OUTBOX_DB "DB is sqlite:PATH or postgresql://USER@HOST/NAME (what libpq takes). "

#define RECORD_JSON "{\"topic\",\"partition\",\"offset\",\"timestamp_ms\",\"key\",\"value\",\"headers\":[[name,value],...]}"
#define BENCH_JSON  "one object with the figures that are printed for people, under the same names"

const struct tool_verb verbs[] = {
    {"topic list", "", 0, 0, "", false, "name the topics",
     "{\"topic\",\"partitions\",\"internal\"}, one a topic, the broker's own ones too", NULL, NULL, verb_topic_list},
    {"topic create", "TOPIC", 1, 1, "pc", false, "make a topic", "{\"topic\"}", NULL,
     "rivulet topic create users -p 3\nrivulet topic create clicks -c retention.ms=86400000", verb_topic_create},
    {"topic describe", "TOPIC...", 1, TOOL_ARGS_LIMIT, "", false, "show partitions, offsets, size and settings",
     "{\"topic\",\"partition\",\"leader\",\"start_offset\",\"end_offset\",\"size_bytes\"}, one a partition", NULL, NULL,
     verb_topic_describe},
    {"topic alter", "TOPIC", 1, 1, "pcD", false, "change settings, or add partitions", "{\"topic\"}",
     "Settings are changed first, then the partitions. What is not named stays as it is.",
     "rivulet topic alter users -c retention.ms=604800000\nrivulet topic alter users -c retention.ms= -p 6",
     verb_topic_alter},
    {"topic delete", "TOPIC...", 1, TOOL_ARGS_LIMIT, "yD", false, "remove topics and all that is in them",
     "{\"topic\",\"deleted\"}, deleted being false with --dry-run", NULL, "rivulet topic delete old --dry-run", verb_topic_delete},
    {"produce", "TOPIC", 1, 1, "kKHfeJZIwzP", false, "send records from standard input, a line each, or from files",
     "{\"topic\",\"partition\",\"offset\",\"timestamp_ms\"}, one a delivered record",
     "Without -f, --json-in or --file each line is the value of a record; with -k it is a key, the separator and a value.\n\n"
     "With --json-in each line is an object with \"value\" and, as they are wanted, \"key\", \"headers\", \"timestamp_ms\" and \"partition\"; "
     "\"topic\" and \"offset\" are passed over, so that what `consume --json` prints can be sent again. Text is a string, other bytes are "
     "{\"base64\":\"...\"}, null is null.\n\n"
     "Ctrl-C ends the input: what was handed over before is still delivered.",
     "echo hello | rivulet produce greetings\n"
     "printf 'ada:ada@example.org\\n' | rivulet produce users -k :\n"
     "rivulet produce pictures --file cat.jpg --key cat -H type=image/jpeg\n"
     "printf 'ada:\\n' | rivulet produce users -k : --null\n"
     "rivulet consume a --until end --json | rivulet produce b --json-in", verb_produce},
    {"consume", "TOPIC", 1, 1, "goukfeZnP", false, "print records", RECORD_JSON ", null being null, and bytes that are not UTF-8 {\"base64\":\"...\"}",
     "Without -g it reads by itself and stores nothing. As a member of a group it commits what it has printed, once a second and when it ends; "
     "-o is then only where to begin when the group has committed nothing.\n\n"
     "Ctrl-C ends it: it commits, leaves the group and says how far it got. So does a reader that goes away (`| head`).",
     "rivulet consume users -f '%p/%o %k=%v\\n'\n"
     "rivulet consume users -o @-2h --until end\n"
     "rivulet consume users -o @2026-11-24T14:00:00Z --until @2026-11-24T15:00:00Z\n"
     "rivulet consume users -g billing", verb_consume},
    {"view", "TOPIC", 1, 1, "KAkfe", false, "print the latest value of every key",
     "{\"topic\",\"partition\",\"offset\",\"timestamp_ms\",\"key\",\"value\"}, one a key, as `consume`",
     "It reads the whole topic up to what is the end now, in memory, and prints a line a key, sorted by key. A record whose value is null removes "
     "its key; records without a key are passed over, and counted on standard error.\n\n"
     "With --at it is as it was at that time, as far as the records of then are still there: a compacted topic has forgotten them.",
     "rivulet view users\nrivulet view users --key ada\nrivulet view users --at -2h --json", verb_view},
    {"group list", "", 0, 0, "", false, "name the groups", "{\"group\",\"state\",\"protocol_type\"}, one a group", NULL, NULL, verb_group_list},
    {"group describe", "GROUP", 1, 1, "", false, "show members, offsets, lag, and how old the oldest unread record is",
     "{\"group\",\"topic\",\"partition\",\"committed_offset\",\"end_offset\",\"lag\",\"member\"}, one a partition; what is not known is null",
     "LAG is how many offsets there are from the committed one to the end. OLDEST UNREAD is the age of the record at the committed offset.", NULL,
     verb_group_describe},
    {"group seek", "GROUP", 1, 1, "GTPyDx", false, "move the committed offsets of a group",
     "{\"group\",\"topic\",\"partition\",\"before\",\"after\",\"done\"}, one a partition",
     "It shows before and after, and asks. A place before the start or behind the end becomes that start or end. "
     "A group with active members is refused: they would go on from where they are, and overwrite it.",
     "rivulet group seek billing --to start --dry-run\nrivulet group seek billing --to @-2h --topic users\nrivulet group seek billing --to -10 --yes",
     verb_group_seek},
    {"group delete", "GROUP...", 1, TOOL_ARGS_LIMIT, "yD", false, "remove groups and the offsets that they have committed",
     "{\"group\",\"deleted\"}, deleted being false with --dry-run", NULL, NULL, verb_group_delete},
    {"parked list", "", 0, 0, "", false, "name the topics in which groups have parked what they could not handle",
     "{\"topic\",\"offsets\",\"waiting\"}, one a parking topic",
     "A parking topic is called TOPIC.GROUP.parked. WAITING is how much of it was not sent back.", NULL, verb_parked_list},
    {"parked show", "TOPIC GROUP", 2, 2, "Klfe", false, "print what a group has parked of a topic, and was not sent back", RECORD_JSON,
     "A line says where the record was at first, how often it failed, its key, and why it failed the last time; --json and -f print all of it.",
     "rivulet parked show users billing\nrivulet parked show users billing --key ada --json", verb_parked_show},
    {"parked send", "TOPIC GROUP", 2, 2, "KlyD", false, "send back what a group has parked of a topic, to this group only",
     "{\"topic\",\"group\",\"records\",\"done\"}, topic being where they are sent to",
     "It counts, and asks. Records go to the group's first retry topic, TOPIC.GROUP.retry.1, which no other group reads, and count their tries on. They stay "
     "in the parking topic; how far it was sent back is remembered as the committed offset of a group that is called like the topic. With --key that is not "
     "moved: what was sent by its key is sent again with the rest. The same record sent twice has the same origin in its headers.",
     "rivulet parked send users billing --dry-run\nrivulet parked send users billing --limit 10 --yes", verb_parked_send},
    {"config list", "[TOPIC]", 0, 1, "O", false, "show the settings of a topic or a broker",
     "{\"topic\" or \"broker\",\"name\",\"value\",\"default\",\"read_only\"}, one a setting", NULL, "rivulet config list users\nrivulet config list --broker 1",
     verb_config_list},
    {"config get", "[TOPIC] NAME...", 1, TOOL_ARGS_LIMIT, "O", false, "print the values of settings", "as `config list`", NULL,
     "rivulet config get users retention.ms", verb_config_get},
    {"config set", "[TOPIC] NAME=VALUE...", 1, TOOL_ARGS_LIMIT, "OD", false, "change settings of a topic or a broker",
     "{\"topic\" or \"broker\",\"name\",\"value\"}, one a setting; with --dry-run \"before\" and \"done\" too", NULL, "rivulet config set users retention.ms=604800000", verb_config_set},
    {"config unset", "[TOPIC] NAME...", 1, TOOL_ARGS_LIMIT, "OD", false, "take settings back to their defaults",
     "{\"topic\" or \"broker\",\"name\",\"value\"}, one a setting, value being null", NULL, NULL, verb_config_unset},
    {"cluster info", "", 0, 0, "", false, "show the brokers", "{\"cluster\",\"broker\",\"host\",\"port\",\"controller\"}, one a broker", NULL, NULL,
     verb_cluster_info},
    {"log dump", "FILE|DIR...", 1, TOOL_ARGS_LIMIT, "r", true, "show segments, indexes and snapshots, and what is wrong with them",
     "objects whose \"kind\" is segment, batch, record, leader_epoch, producer or problem",
     "It reads files, asks no broker, and changes nothing. Exit code 1 when something is wrong.", "rivulet log dump /var/lib/rivulet/users-0", verb_log_dump},
    {"log check", "FILE|DIR...", 1, TOOL_ARGS_LIMIT, "", true, "say what is wrong with a data directory, and where",
     "objects whose \"kind\" is problem, journal or journal_only (\"offset\" up to but not \"offset_to\"), then one that is summary",
     "It reads every byte, asks no broker, and changes nothing. Exit code 1 when something is wrong. Checked: the checksum, offsets, times and records of "
     "every batch, that the segments of a partition follow each other, that indexes agree with their segments, producer snapshots, checkpoints. "
     "Of a broker that runs or was killed the journal is read too: a line tells of it, another of each part of a segment that the journal alone has, which "
     "the next start writes; where the journal has rotted, or says that more was durable than there is, that is a problem. "
     "The end of a partition that neither has may be half a batch: the next start cuts it off.",
     "rivulet log check /var/lib/rivulet", verb_log_check},
    {"log repair", "DIR [PARTITION...]", 1, TOOL_ARGS_LIMIT, "yD", true, "mend the files of a broker that is stopped, and say first what that cuts",
     "objects whose \"kind\" is cut, offset, remove, end or left_alone, with the \"file\", what is wrong (\"text\") and whether it is \"done\"; then one that is "
     "summary",
     "DIR is the data directory, PARTITION a directory in it (users-0); without one, all. It shows every problem and what it would do, and asks. A batch that is "
     "right is never cut; what is behind a bad one is kept where the batch's length or the offset index leads there. Offsets that were given are not given "
     "again. A segment is replaced by its repaired copy, so there must be room for one. A broker that runs is refused, and so is a directory whose journal no "
     "start has read: it says what is in the journal alone.\n\n"
     "Exit code 1 when something is, or stays, wrong. What is cut is gone: copy the directory first if it may be worth more than what is left.",
     "rivulet log repair /var/lib/rivulet --dry-run\nrivulet log repair /var/lib/rivulet users-0 --yes", verb_log_repair},
    {"spool show", "DIR", 1, 1, "r", true, "show what waits in a spool (rivulet_spool.h), and what was set aside",
     "objects whose \"kind\" is event (with --records) or set_aside, then one that is summary",
     "It takes nothing away and changes nothing, also while a program has the spool open. Without --records it names only the events that were set aside: "
     "those that the broker has refused for good, and those of which nobody knows whether they were stored. They stay in the file `refused` of DIR until "
     "`rivulet spool retry` takes them, or somebody removes it, while no program has the spool open. Exit code 1 when something is damaged.",
     "rivulet spool show /var/lib/users/spool\nrivulet spool show /var/lib/users/spool --records --json", verb_spool_show},
    {"spool send", "DIR", 1, 1, "z", false, "send what waits in a spool",
     "{\"delivered\",\"set_aside\",\"waiting\"}",
     "For when the program that fills the spool does not run: it has the spool for itself. Every event is stored once, also when this is stopped in between. "
     "Exit code 1 when something was set aside, or still waits after --timeout.",
     "rivulet spool send /var/lib/users/spool --timeout 600", verb_spool_send},
    {"spool retry", "DIR [TOPIC]", 1, 2, "U", true, "put what was set aside into the spool again, of one topic or of all", "{\"events\"}",
     "For when its cause is mended. The events wait behind those that wait already, and go out with `rivulet spool send`, or with the program that fills the "
     "spool. Each is put there once, also when this is stopped in between. An event that `rivulet spool show --json` calls unsure may be stored "
     "already: look into the topic before --unsure.",
     "rivulet spool retry /var/lib/users/spool && rivulet spool send /var/lib/users/spool\nrivulet spool retry /var/lib/users/spool users --unsure",
     verb_spool_retry},
    {"copy", "SOURCE TARGET", 2, 2, "ounPwLzyD", false, "copy records from a topic or a file to a topic or a file",
     "{\"source\",\"target\",\"records\",\"complete\"}",
     "A name with a slash in it, or after `file:`, is a file (`file:-` is standard input or output); another one is a topic. Files are JSON lines, as "
     "`consume --json` prints them. Keys, values, headers, times and the order in each partition stay as they are; offsets are new. From a topic it "
     "copies up to what is the end now, unless --until says otherwise. It is done when every record is acknowledged.\n\n"
     "Ctrl-C ends it: it says how far it got in each partition, so that -o can go on from there.",
     "rivulet copy users users-2 -o @-2h\n"
     "rivulet copy users ./users.jsonl\n"
     "rivulet copy ./users.jsonl users --to-brokers other.example.org:9092\n"
     "rivulet copy users users --to-brokers other.example.org:9092 --by-key", verb_copy},
    {"health", "", 0, 0, "", false, "ask the cluster whether it can work",
     "{\"healthy\",\"brokers\",\"topics\",\"partitions\",\"partitions_without_leader\",\"took_ms\"}",
     "Exit code 0: it answers, and every partition has a leader. 1: some have none. 3: it cannot be reached.", NULL, verb_health},
#ifdef TOOL_HAS_OUTBOX
    {"outbox init", "DB", 1, 1, "7", true, "make the tables of an outbox in a database", "{\"table\"}",
     OUTBOX_DB "Tables that are there stay as they are. What they are for is in docs/PARTS.md.",
     "rivulet outbox init sqlite:/var/lib/users/users.db\nrivulet outbox init postgresql://users@/users", verb_outbox_init},
    {"outbox show", "DB", 1, 1, "7", true, "show the backlog, and what cannot be sent",
     "{\"rows\",\"sealed\",\"waiting\",\"sent\",\"oldest_ms\",\"relay\",\"lease_left_ms\"}, then {\"kind\":\"topic|key|row|batch\",\"id\",\"topic\","
     "\"partition\",\"key\",\"rows\",\"age_ms\",\"reason\"}, one a trouble",
     OUTBOX_DB "A topic, key or row waits until its cause is mended: `rivulet outbox retry`. A batch of which nobody can know whether it was stored: "
     "`rivulet outbox settle`. Exit code 1 when there is such trouble.", NULL, verb_outbox_show},
    {"outbox run", "DB", 1, 1, "7c", false, "publish what is committed to an outbox, and go on", "{\"published\"}, when it ends",
     OUTBOX_DB "Several may run on one outbox: one works, the others take over. It goes on until Ctrl-C or SIGTERM, through restarts of the database and the "
     "broker, and waits for a broker that is not there yet; what it meets is said on standard error.\n\n"
     "OPTIONS OF THE RELAY: outbox.lease.ms (20000; 100 to 86400000), how long after the last sign of another relay this one takes over where it cannot "
     "know that it is gone, twice as long as an attempt to send may take; outbox.batch.records (1000) and "
     "outbox.batch.bytes (900000), of a batch at most; outbox.keep.ms (0), how long published rows are kept; outbox.poll.ms (1000), between two "
     "looks when nothing tells of rows; outbox.retry.ms (5000), between two looks for a topic that was not there.",
     "rivulet outbox run sqlite:/var/lib/users/users.db -b broker:9092\nrivulet outbox run postgresql://users@/users -c outbox.keep.ms=86400000",
     verb_outbox_run},
    {"outbox retry", "DB [TOPIC]", 1, 2, "7", true, "try again what waits, of one topic or of all", "{\"rows\"}", OUTBOX_DB, NULL, verb_outbox_retry},
    {"outbox settle", "DB BATCH", 2, 2, "789", true, "say whether a batch was stored, when nobody else can", "{\"batch\",\"rows\"}",
     OUTBOX_DB "BATCH is the number that `rivulet outbox show` gives. Look into the topic before: what is published again though it was stored is there twice, "
     "what is skipped though it was not is lost.", "rivulet outbox settle sqlite:users.db 17 --resend", verb_outbox_settle},
#endif
    {"bench produce", "", 0, 0, "TpcCFsBazdWm", false, "measure: batches as fast as they are taken", BENCH_JSON, NULL, NULL, verb_bench_produce},
    {"bench fetch", "", 0, 0, "TpCMdWm", false, "measure: a topic read over and over", BENCH_JSON, NULL, NULL, verb_bench_fetch},
    {"bench latency", "", 0, 0, "TpcCFRsadWm", false, "measure: from when a record is due until it is read", BENCH_JSON, NULL, NULL, verb_bench_latency},
    {"bench commit", "", 0, 0, "TpcCFdWm", false, "measure: offsets, each connection a group of its own", BENCH_JSON, NULL, NULL, verb_bench_commit},
    {"bench connections", "", 0, 0, "Cdm", false, "measure: connections that only say hello", BENCH_JSON, NULL, NULL, verb_bench_connections},
    {"completion", "bash|zsh|fish", 1, 1, "", true, "print what makes a shell complete words", NULL,
     "For bash, in ~/.bashrc: eval \"$(rivulet completion bash)\". For zsh, in ~/.zshrc behind compinit: eval \"$(rivulet completion zsh)\". "
     "For fish: rivulet completion fish >~/.config/fish/completions/rivulet.fish. "
     "Names of topics and groups are asked of the broker, which has a second to answer.", NULL, verb_completion},
    {0},
};
/* clang-format on */

bool verb_is_patient(const struct tool_verb *v)
{
#ifdef TOOL_HAS_OUTBOX
    return v->run == verb_outbox_run;
#else
    (void)v;
    return false;
#endif
}

const struct tool_option *option_of(const struct tool_verb *v, char letter)
{
    for (const struct tool_option *o = options; o->name; o++) {
        if (o->letter == letter && (!o->of || (v && strncmp(v->name, o->of, strlen(o->of)) == 0))) {
            return o;
        }
    }
    return NULL;
}

const char *verb_common_options(const struct tool_verb *v)
{
    if (!v || !v->offline) {
        return "bQXjtvh";
    }
    return v->json ? "jh" : "h";
}

bool verb_takes(const struct tool_verb *v, char letter)
{
    return strchr("bQXjtvh", letter) || strchr(v->options, letter);
}

const struct tool_verb *verb_find(int count, char *const *words, int *ret_words)
{
    for (const struct tool_verb *v = verbs; v->name; v++) {
        const char *space = strchr(v->name, ' ');
        size_t first = space ? (size_t)(space - v->name) : strlen(v->name);
        if (count < 1 || strlen(words[0]) != first || memcmp(words[0], v->name, first) != 0) {
            continue;
        }
        if (!space || (count > 1 && strcmp(words[1], space + 1) == 0)) {
            *ret_words = space ? 2 : 1;
            return v;
        }
    }
    return NULL;
}
