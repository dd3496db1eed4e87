"""What tests of every service share: scenarios, examples, fakes of every port, and the simulator."""
