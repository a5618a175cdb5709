# Forked workers with a pipe each way, one of them replaced in each step; a command through popen; SIGCHLD counted.
STDOUT.sync = true
def note(text) = File.open(ENV['STEPS_LOG'], 'a') { |f| f.write("#{text}\n") }

def fail_with(text)
  note("FAIL #{text}")
  exit! 97
end

def check(condition, text) = condition || fail_with(text)

Worker = Struct.new(:pid, :ask, :answers)

def start(others)
  requests, ask = IO.pipe
  answers, answer = IO.pipe
  pid = fork do
    [*others.flat_map { |w| [w.ask, w.answers] }, ask, answers].each(&:close)
    while (line = requests.gets)
      answer.puts(line.to_i**2)
      answer.flush
    end
    exit! 3
  end
  requests.close
  answer.close
  Worker.new(pid, ask, answers)
end

ended = 0
trap('CHLD') { ended += 1 }
workers = []
3.times { workers.push(start(workers)) }
n = 0
until File.exist?(ENV['STEPS_STOP'])
  n += 1
  workers.each_with_index { |w, i| w.ask.puts(n + i) }
  workers.each_with_index { |w, i| check(w.answers.gets.to_i == (n + i)**2, "answer #{n} of #{i}") }
  old = workers.shift
  old.ask.close
  check(old.answers.gets.nil?, 'the end of a worker')
  _, status = Process.wait2(old.pid)
  check(status.exitstatus == 3, "status #{status}")
  old.answers.close
  check(ended.positive?, 'no SIGCHLD')
  workers.push(start(workers))
  IO.popen(['echo', n.to_s]) { |io| check(io.read == "#{n}\n", 'popen') }
  check($?.success?, 'status of popen')
  note("p main #{n}")
end
workers.each { |w| w.ask.close }
workers.each { |w| check(Process.wait2(w.pid)[1].exitstatus == 3, 'status at the end') }
note('DONE')
exit! 7
