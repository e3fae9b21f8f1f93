"""Apache Kafka's own Java producer, consumer and admin client, pinned in java/pom.xml."""
import toolchains

NEEDS = ("java", "javac")
SETTINGS = ("num.partitions=1",)


def prepare():
    toolchains.java_program()


def run(ctx):
    quiet = ctx.dir / "log4j2.properties"
    quiet.write_text("rootLogger.level=ERROR\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\nappender.c.name=C\n"
                     "appender.c.target=SYSTEM_ERR\nappender.c.layout.type=PatternLayout\n"
                     "appender.c.layout.pattern=[%d] %p %m (%c)%n\n")
    ctx.program(["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={quiet}",
                 "-cp", toolchains.java_program(), "peers.Main"], 300)
