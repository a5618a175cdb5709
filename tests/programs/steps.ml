(* OCaml, as native code and as bytecode: garbage collection, exceptions, a hash table; the log stays open. *)
exception Step of int

let () =
  let log = open_out_gen [ Open_wronly; Open_creat; Open_append ] 0o644 (Sys.getenv "STEPS_LOG") in
  let note text = output_string log (text ^ "\n"); flush log in
  let seen = Hashtbl.create 16 in
  let n = ref 0 in
  while not (Sys.file_exists (Sys.getenv "STEPS_STOP")) do
    incr n;
    (try raise (Step !n) with Step k -> Hashtbl.replace seen k (List.init 1000 (fun i -> i * k)));
    note (Printf.sprintf "p main %d" !n);
    Unix.sleepf 0.01
  done;
  Gc.full_major ();
  for k = 1 to !n do
    if List.nth (Hashtbl.find seen k) 999 <> 999 * k then (note "FAIL entry"; exit 97)
  done;
  note "DONE";
  exit 7
