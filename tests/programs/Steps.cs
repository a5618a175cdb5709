// Mono: its collector, threads, a timer, a monitor.
using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;

class Steps {
  static readonly object gate = new object();
  static readonly string log = Environment.GetEnvironmentVariable("STEPS_LOG");
  static readonly string stop = Environment.GetEnvironmentVariable("STEPS_STOP");

  static void Note(string text) { lock (gate) File.AppendAllText(log, text + "\n"); }

  static void Work(string stream) {
    var seen = new Dictionary<long, int[]>();
    for (long n = 1; !File.Exists(stop); n++) {
      seen[n] = new int[1000];
      for (int i = 0; i < 1000; i++) seen[n][i] = (int)n;
      Note("p " + stream + " " + n);
      Thread.Sleep(10);
    }
    foreach (var entry in seen)
      if (entry.Value[0] != entry.Key || entry.Value[999] != entry.Key) { Note("FAIL entry"); Environment.Exit(97); }
  }

  static void Main() {
    long ticks = 0;
    // On a busy machine a tick comes while the one before is still being noted.
    using (new Timer(_ => { lock (gate) Note("p ticks " + ++ticks); }, null, 0, 20)) {
      var threads = new List<Thread>();
      foreach (var name in new[] { "one", "two" }) {
        var thread = new Thread(() => Work(name));
        thread.Start();
        threads.Add(thread);
      }
      foreach (var thread in threads) thread.Join();
    }
    Note("DONE");
    Environment.Exit(7);
  }
}
