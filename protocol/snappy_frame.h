/* snappy_frame: the framing of Java's xerial snappy, which Kafka's clients write. */
#pragma once

#define SNAPPY_MAGIC "\x82SNAPPY"
enum {
    SNAPPY_MAGIC_SIZE = 8, /* with its 0 */
    SNAPPY_HEAD_SIZE = 16, /* magic, version, least compatible version */
    SNAPPY_BLOCK_SIZE = 32768,
};
