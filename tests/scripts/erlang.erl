%% Erlang: its schedulers, processes with messages, a timer, a table in memory.
-module(erlang_steps).
-mode(compile).
-export([main/1]).

note(Text) -> ok = file:write_file(os:getenv("STEPS_LOG"), [Text, "\n"], [append]).
step(Stream, N) -> note(["p ", Stream, " ", integer_to_list(N)]).
stopping() -> filelib:is_file(os:getenv("STEPS_STOP")).

counter(Table, Name, N) ->
  receive
    {next, From} ->
      ets:insert(Table, {{Name, N}, lists:seq(1, N rem 50)}),
      step(Name, N),
      From ! {done, Name, N},
      counter(Table, Name, N + 1)
  end.

loop(Table, Counters, N) ->
  [C ! {next, self()} || C <- Counters],
  [receive {done, Name, N} -> ok after 20000 -> note("FAIL no answer"), halt(97) end || Name <- ["one", "two"]],
  case stopping() of
    true -> N;
    false -> timer:sleep(10), loop(Table, Counters, N + 1)
  end.

main(_) ->
  Table = ets:new(seen, [public]),
  Counters = [spawn(fun() -> counter(Table, Name, 1) end) || Name <- ["one", "two"]],
  N = loop(Table, Counters, 1),
  Good = lists:all(fun({Name, K}) -> ets:lookup(Table, {Name, K}) =:= [{{Name, K}, lists:seq(1, K rem 50)}] end,
                   [{Name, K} || Name <- ["one", "two"], K <- lists:seq(1, N)]),
  case Good of
    true -> note("DONE"), halt(7);
    false -> note("FAIL entry"), halt(97)
  end.
