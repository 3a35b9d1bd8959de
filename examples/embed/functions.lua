-- functions.lua - the script of functions.c: a process that outlives the script's last line.
fz.process(function() fz.sleep(0.01) print "process" end):start()
