import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

/** Java threads that make garbage, with a lock, an executor and a concurrent map. */
public class Threads {
    static final Path LOG = Path.of(System.getenv("STEPS_LOG")), STOP = Path.of(System.getenv("STEPS_STOP"));

    static synchronized void note(String text) {
        try {
            Files.writeString(LOG, text + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (java.io.IOException e) {
            Runtime.getRuntime().halt(98);
        }
    }

    static void check(boolean good, String what) {
        if (good) return;
        note("FAIL " + what);
        Runtime.getRuntime().halt(97);
    }

    public static void main(String[] args) throws Exception {
        int count = 3;
        ConcurrentHashMap<String, Long> seen = new ConcurrentHashMap<>();
        AtomicLong total = new AtomicLong();
        ExecutorService pool = Executors.newFixedThreadPool(count);
        List<Future<Long>> results = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            String stream = "t" + i;
            results.add(pool.submit(() -> {
                long n = 0;
                Deque<byte[]> kept = new ArrayDeque<>();
                while (!Files.exists(STOP)) {
                    n++;
                    for (int k = 0; k < 200; k++) {
                        byte[] block = new byte[4096];
                        Arrays.fill(block, (byte) (n % 100));
                        kept.addLast(block);
                        if (kept.size() > 500) {
                            byte[] old = kept.removeFirst();
                            check(old[0] == old[old.length - 1], "a block has changed");
                        }
                    }
                    seen.put(stream + ":" + n, n);
                    total.addAndGet(n);
                    note("p " + stream + " " + n);
                    Thread.sleep(10);
                }
                return n;
            }));
        }
        long want = 0;
        for (Future<Long> result : results) want += result.get() * (result.get() + 1) / 2;
        pool.shutdown();
        check(pool.awaitTermination(10, TimeUnit.SECONDS), "the pool does not end");
        check(total.get() == want && seen.values().stream().mapToLong(x -> x).sum() == want, "sums differ");
        System.gc();
        note("DONE");
        System.exit(7);
    }
}
