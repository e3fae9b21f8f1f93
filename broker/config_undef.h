/* Takes back the macros that a reader of config.def defined. Included many times. */
#undef BROKER_INT
#undef BROKER_BOOL
#undef BROKER_TEXT
#undef TOPIC_INT
#undef TOPIC_BOOL
#undef TOPIC_REAL
#undef TOPIC_WORD
#undef TOPIC_LIST
#undef ALIAS
#undef IGNORED
